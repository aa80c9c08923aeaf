"""From a RunConfig to everything the loop needs: data, model, task and plan, each checked as early as it can be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from trimtab_trainer import logs
from trimtab_trainer.attempt import Attempt
from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.gates import PREFIXES
from trimtab_trainer.contract.run_config import ResolvedDataset, RunConfig
from trimtab_trainer.contract.spec import Data, DataSource
from trimtab_trainer.data.batches import BatchPlan, Row, pack, total_steps
from trimtab_trainer.data.encoded import ModelInput
from trimtab_trainer.data.languages import release_detector
from trimtab_trainer.data.quality import DataQuality
from trimtab_trainer.data.splits import SPLITS, RawData, Split, encode_split, read_data
from trimtab_trainer.distributed import bytes_from_main, wait_for_all
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.fetch.base_model import BaseModel, fetch_base_model
from trimtab_trainer.fetch.by_uri import fetch_dataset
from trimtab_trainer.hardware import choose_precision, has_bfloat16_units, leave_threads_to_torch
from trimtab_trainer.memory import Machine, MemoryEstimate, choose_micro_batch_size
from trimtab_trainer.methods.registry import method_of
from trimtab_trainer.model import TrainableModel, load_model, prepare
from trimtab_trainer.model_facts import ModelFacts, read_model_facts
from trimtab_trainer.objectives.policy import give_scorer, make_scorer
from trimtab_trainer.objectives.registry import definition_of
from trimtab_trainer.objectives.rewards.scorer import Scorer
from trimtab_trainer.practices.adversarial import Attack
from trimtab_trainer.practices.anchor import Anchor, make_anchor
from trimtab_trainer.practices.classes import balanced_probabilities
from trimtab_trainer.practices.dropout import override_dropout
from trimtab_trainer.practices.embeddings import attach_embeddings
from trimtab_trainer.practices.recomputation import recompute_activations
from trimtab_trainer.practices.replay import replays_per_epoch, training_split
from trimtab_trainer.publishing.quantize import check_quantizable
from trimtab_trainer.quota import memory_limit
from trimtab_trainer.reporting.drift import sample_weights
from trimtab_trainer.sharding import shard_count
from trimtab_trainer.slices import check_columns
from trimtab_trainer.store.object_store import ObjectStore
from trimtab_trainer.tasks.definition import Encoder, TaskDefinition
from trimtab_trainer.tasks.task import FitsHead, Task

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass
class Prepared:
    """What preparation made."""

    splits: Mapping[str, Split]
    datasets: list[ResolvedDataset]
    model_digest: str
    facts: ModelFacts
    model: TrainableModel
    task: Task
    encoder: Encoder
    plan: BatchPlan
    attack: Attack | None
    anchor: Anchor | None
    total_steps: int
    learning_rate: float
    """At the peak of the schedule."""
    micro_batch_size: int
    memory: MemoryEstimate
    quality: DataQuality | None = None
    loop_task: Task | None = None
    """What the loop learns, where that is not the task itself but the task over known features."""
    scorer: Scorer | None = None
    """What judges answers, where rewards do."""
    version_metrics: Mapping[str, float] = field(default_factory=dict)
    """Of the version that training goes on from."""
    start_sample: Mapping[str, Tensor] = field(default_factory=dict)
    """Some of the trained weights as they were loaded."""

    @property
    def earlier_examples(self) -> Sequence[ModelInput]:
        """What must not be forgotten; where general data is mixed into training, the part that is not measured."""
        return (self.splits["replay"] if "replay" in self.splits else self.splits["general"]).encoded


def prepare_run(attempt: Attempt, store: ObjectStore, device: torch.device, *, precision: str) -> Prepared:
    """Fetch, check, tokenise, load. `precision` is what an earlier attempt computed in, "" for the first.

    Raises:
        TrainerError: with the reason of whatever is wrong.
    """
    config = attempt.config
    definition, method = definition_of(config), method_of(config)
    with attempt.timed("reading data"):
        raw = read_data(
            config,
            lambda source: _fetch_dataset(attempt, store, source, device),
            allowed=definition.formats,
            by_task=definition.formats_by_task(),
        )
        labels = definition.labels(config, raw.examples["train"])
        release_detector()
    for warning in raw.warnings:
        attempt.warn(warning)
    attempt.reporter.update(datasets=list(raw.datasets))
    with attempt.timed("fetching the model"):
        base = _fetch_model(attempt, store, device)
        facts = read_model_facts(base.directory)
        check_not_quantized(config, facts)
        method.check(config, facts)
    attempt.reporter.update(urgent=True, model_digest=base.digest)
    dtype = _agreed_precision(attempt, device, precision)
    shards = shard_count(config, facts, device_type=device.type, world_size=attempt.world.world_size)
    size, memory = _micro_batch_size(attempt, facts, device, dtype, shards)
    with attempt.timed("tokenising"):
        processor = definition.load_processor(base.adapter or base.directory)
        encoder = definition.encoder(config, base.directory, processor, labels)
        splits = encode_splits(attempt, raw, encoder)
        check_columns(config.data.slices, {name: splits[name] for name in PREFIXES})
        for warning in definition.data_warnings(encoder, splits["train"].encoded):
            attempt.warn(warning)
    with attempt.timed("loading the model"):
        loaded, new = load_model(
            config,
            base.directory,
            auto_model=definition.auto_model,
            arguments={**definition.load_arguments(config, labels), **method.load_arguments(config)},
            has_new_head=definition.has_new_head,
            tokenizer=processor,
        )
        if not method.is_adapter:
            definition.complete(config, loaded, base.directory)
        check_quantizable(config, loaded)
        if config.training.dropout is not None:
            override_dropout(loaded, config.training.dropout)
        module = method.apply(config, loaded, new, base.adapter)
        model = prepare(
            module, tokenizer=processor, device=device, precision=dtype, labels=labels, keeps_base=method.is_adapter
        )
        model.still = method.still_parts(model.base)
        if config.training.recompute_activations:
            recompute_activations(model)
            if device.type == "cpu":
                attempt.warn(
                    "`training.recomputeActivations` saves memory and costs time; where memory suffices, a CPU is faster without it."
                )
        task, warning = definition.make(config, model, splits["train"].encoded)
        scorer = _fetch_scorer(attempt, store, device)
        give_scorer(task, scorer)
    if warning:
        attempt.warn(warning)
    attack = make_attack(config, model)
    start_sample = sample_weights(model.trainable)
    model.spread(shards)
    continual = config.training.continual
    anchor = None if continual is None else make_anchor(continual, model, new)
    plan = make_plan(config, splits)
    steps = total_steps(plan, epochs=config.training.epochs or definition.epochs, max_steps=config.training.max_steps)
    return Prepared(
        splits,
        list(raw.datasets),
        base.digest,
        facts,
        model,
        task,
        encoder,
        plan,
        attack,
        anchor,
        steps,
        peak_learning_rate(
            config, definition, is_head_new=bool(new) and base.adapter is None and not isinstance(task, FitsHead)
        ),
        size,
        memory,
        raw.quality,
        start_sample=start_sample,
        scorer=scorer,
        version_metrics=base.metrics,
    )


def peak_learning_rate(config: RunConfig, definition: TaskDefinition, *, is_head_new: bool) -> float:
    """The user's, or what suits method and objective."""
    own = method_of(config).default_learning_rate(is_head_new=is_head_new) / definition.learning_rate_divisor
    return config.training.learning_rate or own


def check_not_quantized(config: RunConfig, facts: ModelFacts) -> None:
    """Weights of fewer bits cannot be trained, and an adapter beside them would fit no other copy of the model.

    Raises:
        TrainerError: ModelInvalid naming the model.
    """
    if facts.is_quantized:
        raise TrainerError(
            TrainerReason.MODEL_INVALID,
            f"{config.model.uri} is quantised: training goes on from full weights. Name a version that was published without "
            "`output.quantization`; `method.qlora` quantises by itself.",
        )


def make_attack(config: RunConfig, model: TrainableModel) -> Attack | None:
    """Noise and attacks on the embeddings, where they are asked for."""
    training = config.training
    if training.adversarial is None and training.embedding_noise_alpha is None:
        return None
    embeddings = attach_embeddings(model, noise_alpha=training.embedding_noise_alpha)
    return None if training.adversarial is None else Attack(training.adversarial, embeddings)


def make_plan(config: RunConfig, splits: Mapping[str, Split]) -> BatchPlan:
    """The rows of what is trained on and their order. Like lengths are batched together where a task always pads rows.

    Tasks that can pack never do, not even unpacked: their loss is a mean over tokens, of which a few batches would hold most.
    """
    own, whole = splits["train"].encoded, training_split(splits).encoded
    lengths = [example.length for example in whole]
    can_pack = definition_of(config).packs
    is_packed = config.data.packing and can_pack
    weights = [example.weight for example in splits["train"].examples]
    rows: list[Row] = []
    for weight in sorted(set(weights)):  # a row is shown as often as its examples, so they must have one weight
        members = [number for number, of_example in enumerate(weights) if of_example == weight]
        rows += _rows(config, members, lengths, is_packed=is_packed)
    replay = _rows(config, range(len(own), len(whole)), lengths, is_packed=is_packed)
    curriculum = config.training.curriculum
    shown = round(sum(weights[row[0]] for row in rows))  # rows of one epoch, before replay
    return BatchPlan(
        rows=[*rows, *replay],
        lengths=[sum(lengths[index] for index in row) for row in (*rows, *replay)],
        global_batch_size=config.training.global_batch_size,
        seed=config.training.seed,
        weights=[weights[row[0]] for row in rows],
        group_by_length=not can_pack,
        short_first_epochs=curriculum.by_length_epochs if curriculum else 0,
        probabilities=_probabilities(config, [own[row[0]] for row in rows]),
        replay_rows=len(replay),
        replays_per_epoch=replays_per_epoch(shown, config.data.mix_fraction),
    )


def _probabilities(config: RunConfig, train: Sequence[Any]) -> list[float] | None:
    """How likely each example is drawn; None: an epoch has each once."""
    if config.training.balanced_sampling:
        return list(balanced_probabilities([example.label for example in train]))
    return definition_of(config).sampling(train)


def _rows(config: RunConfig, members: Sequence[int], lengths: Sequence[int], *, is_packed: bool) -> list[Row]:
    """Rows of some of the examples."""
    if not is_packed:
        return [(number,) for number in members]
    capacity, seed = config.data.max_sequence_length, config.training.seed
    packed = pack([lengths[number] for number in members], capacity=capacity, seed=seed)
    return [tuple(members[place] for place in row) for row in packed]


def encode_splits(attempt: Attempt, raw: RawData, encoder: Encoder) -> dict[str, Split]:
    """Tokenise every split and report what the data check found."""
    splits = {}
    for name, examples in raw.examples.items():
        splits[name] = encode_split(name, examples, encoder.encode)
        summary = splits[name].summary
        if examples:
            logs.fact(
                "data_checked",
                **summary.model_dump(),
                **{f"p{at}": count for at, count in splits[name].lengths.items()},
            )
        if summary.truncated:
            attempt.warn(
                f"{summary.truncated} of {summary.examples} {name} examples are longer than maxSequenceLength "
                f"({attempt.config.data.max_sequence_length}) and were cut."
            )
    attempt.reporter.update(urgent=True, data=[split.summary for split in splits.values() if split.examples])
    return splits


def _fetch_dataset(attempt: Attempt, store: ObjectStore, source: DataSource, device: torch.device) -> Any:
    pins = {pin.uri: pin.digest for pin in attempt.config.pins.datasets}
    _wait_for_turn(attempt, device)
    fetched = fetch_dataset(
        source,
        store=store,
        directory=attempt.scratch / f"data-{attempt.world.local_rank}",
        pin=pins.get(source.uri, ""),
        field=_field_of(source, attempt.config.data),
    )
    _same_everywhere(fetched.digest, source.uri, device)
    return fetched


def _field_of(source: DataSource, data: Data) -> str:
    """The field that names a source, as its user wrote it."""
    named = ((split, number, known) for split in SPLITS for number, known in enumerate(getattr(data, split)))
    return next(f"data.{split}[{number}].uri" for split, number, known in named if known is source)


def _fetch_model(attempt: Attempt, store: ObjectStore, device: torch.device) -> BaseModel:
    _wait_for_turn(attempt, device)
    found = fetch_base_model(
        attempt.config, store=store, directory=attempt.scratch / f"model-{attempt.world.local_rank}"
    )
    _same_everywhere(found.digest, attempt.config.model.uri, device)
    return found


def _fetch_scorer(attempt: Attempt, store: ObjectStore, device: torch.device) -> Scorer | None:
    directory = attempt.scratch / f"reward-model-{attempt.world.local_rank}"
    scorer = make_scorer(attempt.config, store=store, directory=directory, device=device)
    if scorer is not None and scorer.digest:
        _same_everywhere(scorer.digest, "The reward model", device)
    return scorer


def _wait_for_turn(attempt: Attempt, device: torch.device) -> None:
    """Several ranks start together."""
    if attempt.world.world_size > 1:
        wait_for_all(device)


def _same_everywhere(digest: str, uri: str, device: torch.device) -> None:
    """All ranks must have read the same bytes."""
    main = bytes_from_main(digest.encode(), device).decode()
    if digest != main:
        raise TrainerError(
            TrainerReason.DIGEST_MISMATCH,
            f"{uri} changed while the processes of this attempt read it: {digest} and {main}.",
        )


def _agreed_precision(attempt: Attempt, device: torch.device, earlier: str) -> torch.dtype:
    """Rank 0 decides for all; a resumed run computes as it began."""
    wanted = attempt.config.training.precision
    chosen = PRECISIONS[earlier] if earlier else choose_precision(wanted, device)
    name = bytes_from_main(str(chosen).removeprefix("torch.").encode(), device).decode()
    if name == "bfloat16" and device.type == "cpu" and not has_bfloat16_units():
        attempt.warn(
            "This CPU has no bfloat16 units (AMX or AVX512_BF16): bfloat16 is emulated, about three times slower than float32."
        )
    leave_threads_to_torch(PRECISIONS[name], device)
    return PRECISIONS[name]


def _micro_batch_size(
    attempt: Attempt, facts: ModelFacts, device: torch.device, dtype: torch.dtype, shards: int
) -> tuple[int, MemoryEstimate]:
    config = attempt.config
    if device.type == "cuda":
        limit: int | None = torch.cuda.get_device_properties(device).total_memory
    else:
        limit = min(filter(None, (config.memory_limit_bytes, memory_limit())), default=None)
    share = -(-config.training.global_batch_size // attempt.world.world_size)
    size, estimate = choose_micro_batch_size(
        config,
        facts,
        share=share,
        machine=Machine(device.type, shards),
        bytes_per_value=dtype.itemsize,
        limit=limit,
    )
    logs.fact("memory_estimated", micro_batch_size=size, bytes=estimate.total, limit=limit)
    return size, estimate
