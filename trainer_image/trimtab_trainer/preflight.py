"""What can be known to be wrong before anything expensive happens."""

from pathlib import Path

from trimtab_trainer.contract import mounts
from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.objectives import NOT_WITH_SAMPLES
from trimtab_trainer.contract.quantization import QUANTIZATION_CHANGE
from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.objectives.registry import definition_of
from trimtab_trainer.objectives.rewards.rules import rule_of
from trimtab_trainer.optimizer import parse_extra_arguments
from trimtab_trainer.practices.adversarial import PREFIX
from trimtab_trainer.practices.forgetting import continual_names
from trimtab_trainer.publishing.export import export_format
from trimtab_trainer.publishing.signature import SignatureError, SigningKey
from trimtab_trainer.sharding import why_whole
from trimtab_trainer.slices import comparison_names


def check_config(config: RunConfig, *, world_size: int) -> None:
    """Fields that contradict each other.

    Raises:
        TrainerError: ConfigInvalid naming the fields.
    """
    training = config.training
    if training.epochs is not None and training.max_steps is not None:
        raise _invalid("`training.epochs` and `training.maxSteps` exclude each other; set one.")
    if config.data.validation and config.data.validation_fraction is not None:
        raise _invalid("`data.validation` and `data.validationFraction` exclude each other; set one.")
    check_batch_sizes(config, world_size=world_size)
    check_metrics(config)
    check_gates(config)
    check_output(config)
    check_practices(config)
    check_few_shot(config)
    check_weights(config)
    check_names(config)
    check_changes(config)
    check_sampling(config)
    check_answers(config)
    check_sharding(config)


def signing_key(config: RunConfig, *, file: Path = Path(mounts.SIGNING_KEY_FILE)) -> SigningKey | None:
    """The key that `output.sign` asks for, from the mounted Secret; None where nothing is signed.

    Raises:
        TrainerError: ConfigInvalid naming the Secret.
    """
    if not config.output.sign:
        return None
    try:
        return SigningKey.read(file)
    except SignatureError as error:
        raise _invalid(
            f"`output.sign` needs a private key: Secret '{config.output.signing_secret_name}' of this namespace must have the key "
            f"'{file.name}', but {error}."
        ) from error


def check_batch_sizes(config: RunConfig, *, world_size: int) -> None:
    """GlobalBatchSize = microBatchSize x gradientAccumulationSteps x processes, where they are given."""
    training = config.training
    whole, micro, steps = training.global_batch_size, training.micro_batch_size, training.gradient_accumulation_steps
    given = (micro or 1) * (steps or 1) * world_size
    if (micro or steps) and (whole % given or (micro and steps and whole != given)):
        raise _invalid(
            f"`training.globalBatchSize: {whole}` must be microBatchSize ({micro or 'not given'}) x gradientAccumulationSteps "
            f"({steps or 'not given'}) x {world_size} processes. Leave two of them out, and they follow."
        )
    if whole < world_size:
        raise _invalid(f"`training.globalBatchSize: {whole}` must be at least the number of processes, {world_size}.")


def check_sharding(config: RunConfig) -> None:
    """What cannot be spread over processes is not asked to be."""
    if parse_extra_arguments(config.training).shard_weights and (why := why_whole(config)):
        raise _invalid(f"`training.extraArguments.shardWeights` does not go with this job: {why}. Leave it out.")


def check_metrics(config: RunConfig) -> None:
    """Early stopping and selection need validation data and a metric that the task measures."""
    training = config.training
    known = [f"eval_{name}" for name in measured_names(config)]
    has_validation = bool(config.data.validation) or config.data.validation_fraction is not None
    for field, settings in (("earlyStopping", training.early_stopping), ("selectBestBy", training.select_best_by)):
        if settings is None:
            continue
        if not has_validation:
            raise _invalid(f"`training.{field}` needs `data.validation` or `data.validationFraction`.")
        if settings.metric not in known:
            raise _invalid(
                f"`training.{field}.metric: {settings.metric}` is not measured; must be one of: {', '.join(known)}."
            )


def measured_names(config: RunConfig) -> list[str]:
    """The task's metrics, without a split's prefix; with adversarial training those under attack, too."""
    names = definition_of(config).metrics_of(config)
    return [*names, *(f"{PREFIX}{name}" for name in names if config.training.adversarial)]


def gated_names(config: RunConfig) -> list[str]:
    """What gates may ask for besides what is measured while training."""
    names = measured_names(config)
    names = [*names, *comparison_names(config.data.slices, names)]
    changes = [f"{QUANTIZATION_CHANGE}{name}" for name in names if config.output.quantization]
    return [*names, *changes, *continual_names(config.data)]


def check_output(config: RunConfig) -> None:
    """Fewer bits are for whole models that transformers loads."""
    if config.output.quantization is None:
        return
    if export_format(config) != "safetensors":
        raise _invalid(
            f"`output.quantization` needs a whole model, and `method.{config.method.kind}` publishes an adapter. "
            "Set `output.merge` with `method.lora`, choose full, partial or headOnly, or leave it out."
        )
    if config.task.multi_task is not None:
        raise _invalid(
            "`output.quantization` is for models that transformers loads by itself, which multiTask's are not."
        )


def check_gates(config: RunConfig) -> None:
    """A gate on a metric that the task does not have would never have a number."""
    known = gated_names(config)
    for index, gate in enumerate(config.evaluation.gates if config.evaluation else ()):
        if gate.plain_metric not in known:
            raise _invalid(
                f"`evaluation.gates[{index}].metric: {gate.metric}` is not measured; must be one of: {', '.join(known)}."
            )


def check_weights(config: RunConfig) -> None:
    """Weights say how often an epoch shows training data: nothing else is mixed by them, and nothing else may decide it."""
    data, task = config.data, config.task.kind
    for split in ("validation", "test", "general"):
        for number, source in enumerate(getattr(data, split)):
            if source.weight != 1:
                raise _invalid(
                    f"`data.{split}[{number}].weight` has no meaning: only `data.train` is mixed; leave it out."
                )
    is_drawn = config.training.balanced_sampling or config.task.multi_task is not None
    if is_drawn and any(source.weight != 1 for source in data.train):
        drawn_by = "`training.balancedSampling`" if config.training.balanced_sampling else f"the task {task}"
        raise _invalid(f"`data.train[].weight` cannot be combined with {drawn_by}, which draws examples by itself.")


def check_names(config: RunConfig) -> None:
    """Data sets are measured by their names."""
    for split in ("train", "validation"):
        for number, source in enumerate(getattr(config.data, split)):
            if source.name:
                raise _invalid(
                    f"`data.{split}[{number}].name` has no meaning: data sets in `test` and `general` are measured by it; leave it out."
                )


def check_practices(config: RunConfig) -> None:
    """Practices that mean nothing for this task or method are refused, not ignored."""
    training, definition = config.training, definition_of(config)
    what = f"{config.task.kind} with the objective {config.objective.kind}"
    if training.label_smoothing and not definition.smooths_labels:
        raise _invalid(f"`training.labelSmoothing` has no meaning for {what}; leave it out.")
    for field, value in (("classWeights", training.class_weights), ("balancedSampling", training.balanced_sampling)):
        if value and not definition.weighs_classes:
            raise _invalid(
                f"`training.{field}` needs a task with one class for each example; got {what}. Leave it out."
            )
    if training.curriculum and config.data.packing and definition.packs:
        raise _invalid(
            "`training.curriculum` orders examples by length, and packed rows are all about equally long. "
            "Set `data.packing: false`, or leave the curriculum out."
        )
    for field, needs in (
        ("training.continual.ewc", training.continual is not None and training.continual.ewc is not None),
        ("data.mixFraction", config.data.mix_fraction is not None),
    ):
        if needs and not config.data.general:
            raise _invalid(f"`{field}` needs `data.general`: examples of what must not be forgotten.")
    if training.recompute_activations:
        check_recomputation(config)
    for field, chosen in (
        ("adversarial", training.adversarial),
        ("embeddingNoiseAlpha", training.embedding_noise_alpha),
        ("dropout", training.dropout),
    ):
        if chosen is not None and config.method.head_only is not None:
            raise _invalid(
                f"`training.{field}` changes what the trunk computes while training, and `method.headOnly` takes its features "
                "as they are. Choose another method, or leave it out."
            )


def check_recomputation(config: RunConfig) -> None:
    """Layers are computed again where gradients go through them, and without a cache."""
    method = config.method
    if method.head_only is not None:
        why = "keeps no activations of its layers, as no gradient goes through them"
    elif method.prefix_tuning is not None and method.prefix_tuning.kind == "prefix":
        why = "stands in a cache of keys and values, which layers that are computed again do not read"
    else:
        return
    raise _invalid(
        f"`training.recomputeActivations` does not go with `method.{method.kind}`, which {why}. Leave it out."
    )


def check_few_shot(config: RunConfig) -> None:
    """Something below the head must move, and each text must have one class."""
    if config.objective.few_shot is None:
        return
    if config.method.head_only is not None:
        raise _invalid(
            "`objective.fewShot` moves what the head reads, and `method.headOnly` moves the head alone. Choose another method, for example full."
        )
    task = config.task.sequence_classification
    if task is not None and task.multi_label:
        raise _invalid(
            "`objective.fewShot` needs one class for each text; leave `task.sequenceClassification.multiLabel` out."
        )


def check_changes(config: RunConfig) -> None:
    """Changes of words that this task's rows cannot bear are refused."""
    definition = definition_of(config)
    what = f"{config.task.kind} with the objective {config.objective.kind}"
    formats = {*definition.formats, *(name for of_task in definition.formats_by_task().values() for name in of_task)}
    if config.data.normalization is not None and "questionAnswers" in formats:
        raise _invalid(
            "`data.normalization` would move the answers, whose rows say at which character they begin. Leave it out, or "
            "normalise the files themselves."
        )
    if config.data.augmentation is not None and "labelled" not in definition.formats:
        raise _invalid(
            f"`data.augmentation` changes words of labelled texts, which {what} has not: other words would need other answers. "
            "Leave it out."
        )


def check_sampling(config: RunConfig) -> None:
    """What does not go with answers of the model itself, rewards that cannot be computed, and answers without room."""
    settings, training = config.objective.from_rewards, config.training
    if settings is None:
        return
    chosen = {
        "adversarial": training.adversarial,
        "embeddingNoiseAlpha": training.embedding_noise_alpha,
        "ewc": training.continual.ewc if training.continual is not None else None,
        "spikeFactor": training.divergence.spike_factor,
    }
    for name, (field, why, objectives) in NOT_WITH_SAMPLES.items():
        if chosen[name] is not None and config.objective.kind in objectives:
            raise _invalid(f"`{field}` does not go with `objective.{config.objective.kind}`: {why}. Leave it out.")
    for term in settings.rewards:
        rule_of(term)
    room, limit = settings.sampling.max_new_tokens, config.data.max_sequence_length
    if room >= limit:
        raise _invalid(
            f"`objective.{config.objective.kind}.sampling.maxNewTokens: {room}` must leave room for the prompt within "
            f"`data.maxSequenceLength: {limit}`."
        )


def check_answers(config: RunConfig) -> None:
    """Answers that are written while a model is measured need prompts, and a model as it is."""
    task, supervised = config.task.causal_language_modeling, config.objective.supervised
    if task is None or task.written_answers is None:
        return
    field = "task.causalLanguageModeling.writtenAnswers"
    if supervised is None or supervised.loss_on_prompt:
        raise _invalid(
            f"`{field}` compares answers with those of the examples: it needs `objective.supervised` without `lossOnPrompt`. Leave it out."
        )
    if config.training.adversarial is not None:
        raise _invalid(
            f"`{field}` does not go with `training.adversarial`, which measures perturbed inputs, too. Leave one of them out."
        )
    room, limit = task.written_answers.max_new_tokens, config.data.max_sequence_length
    if room >= limit:
        raise _invalid(f"`{field}.maxNewTokens: {room}` must be less than `data.maxSequenceLength: {limit}`.")


def _invalid(message: str) -> TrainerError:
    return TrainerError(TrainerReason.CONFIG_INVALID, message)
