"""A published model as it answers requests: loaded as evaluations load it, and asked through the task's own code."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from trimtab_trainer.contract import spec
from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.methods import HeadOnly, Method
from trimtab_trainer.contract.objectives import Objective, Reward, Supervised
from trimtab_trainer.contract.run_config import RunConfig, ServerConfig
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.fetch.published import ADAPTER_WEIGHTS
from trimtab_trainer.hardware import choose_precision
from trimtab_trainer.methods.own_adapters import is_adapted, with_adapter
from trimtab_trainer.model import TrainableModel, load_model, prepare
from trimtab_trainer.objectives.registry import definition_of
from trimtab_trainer.objectives.reward import REWARD
from trimtab_trainer.tasks.multi_task import labels_of_task, view
from trimtab_trainer.tasks.question_answering import SpanPrediction
from trimtab_trainer.tasks.task import Answers

ONLY_HEAD = ""
"""Name of the head of a model that has no others."""
REWARD_MODEL = "reward"
"""Kind of the heads that score conversations."""
_UNLIMITED = 1 << 30


@dataclass(frozen=True, eq=False)
class Head:
    """What answers requests for one task."""

    kind: str
    """A member of `spec.task`, or REWARD_MODEL."""
    task: Answers
    model: TrainableModel
    encoder: Any
    """The task's own, with a method for what requests bring."""
    labels: tuple[str, ...]
    processor: Any
    max_length: int
    """Tokens, patches or frames of one example."""
    settings: RunConfig
    """`task` is what the version says."""


@dataclass(frozen=True)
class Servable:
    """A version's heads by the names of their tasks; ONLY_HEAD where there is only one task."""

    heads: Mapping[str, Head]


@dataclass(frozen=True)
class ModelFiles:
    """Verified files of a model."""

    directory: Path
    """Of the whole model, or of the base model under an adapter."""
    adapter: Path | None = None

    @property
    def processor(self) -> Path:
        """Where the tokenizer or the image processor is: an adapter may bring its own."""
        names = ("tokenizer_config.json", "preprocessor_config.json", "processor_config.json")
        if self.adapter is not None and any((self.adapter / name).is_file() for name in names):
            return self.adapter
        return self.directory


def settings_of(config: ServerConfig, labels: Sequence[str], max_length: int) -> RunConfig:
    """A run that trains nothing: what the code of tasks is configured by."""
    is_reward = config.task.sequence_classification is not None and tuple(labels) == (REWARD,)
    return RunConfig(
        job=config.rollout,
        attempt=1,
        model=config.base_model,
        task=config.task,
        objective=Objective(reward=Reward()) if is_reward else Objective(supervised=Supervised()),
        method=Method(head_only=HeadOnly()),
        # Without the training split, which the schema demands.
        data=spec.Data.model_construct(train=[], max_sequence_length=max_length),
        training=spec.Training(),
        distribution=spec.Distribution(),
        checkpoints=spec.Checkpoints(),
        output=spec.Output(model_name=config.model_name),
        store=config.store,
    )


def load(config: ServerConfig, files: ModelFiles, labels: tuple[str, ...], *, complete: bool) -> TrainableModel:
    """The model in memory, with its adapter if it has one.

    Args:
        config: of the server.
        files: what to load.
        labels: of the head, which is made anew where the files have another.
        complete: the files must have all weights; else an adapter brings those of the head.

    Raises:
        TrainerError: ModelInvalid where the files are no such model.
    """
    settings = settings_of(config, labels, config.max_sequence_length)
    definition = definition_of(settings)
    processor = definition.load_processor(files.processor)
    module, new = load_model(
        settings,
        files.directory,
        auto_model=definition.auto_model,
        arguments=definition.load_arguments(settings, labels),
        has_new_head=definition.has_new_head,
        tokenizer=processor,
    )
    if complete and new:
        raise _invalid(f"The model's files lack {len(new)} weights, among them {new[0]}.")
    if files.adapter is not None:
        module = _with_adapter(module, files.adapter)
    module.requires_grad_(requires_grad=False)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    # float32 on CPUs: an answer is the same to the last digit whoever asks beside it.
    precision = choose_precision("auto" if device.type == "cuda" else "float32", device)
    model = prepare(module, tokenizer=processor, device=device, precision=precision, labels=labels)
    model.module.eval()
    return model


def servable(config: ServerConfig, model: TrainableModel, files: ModelFiles, max_length: int) -> Servable:
    """What answers requests with a model in memory.

    Args:
        config: of the server.
        model: with the labels of this version.
        files: what it was loaded from.
        max_length: of one example, as it was trained; the model's own limit holds too.

    Raises:
        TrainerError: ModelInvalid where tokenizer or image processor do not fit the task.
    """
    limit = min(max_length, positions(model))
    settings = settings_of(config, model.labels, limit)
    definition = definition_of(settings)
    processor = definition.load_processor(files.processor)
    model = replace(model, tokenizer=processor)
    encoder: Any = definition.encoder(settings, files.directory, processor, model.labels)
    made, _ = definition.make(settings, model, [])
    task: Any = made
    if isinstance(task, SpanPrediction) and files.adapter is not None and not is_adapted(files.adapter):
        # peft's model for questions drops the types of tokens, so training and evaluations under it do without.
        task = replace(task, has_types=False)
    if config.task.multi_task is not None:
        return Servable(
            {
                one.name: Head(
                    one.head.kind,
                    task.tasks[one.name],
                    view(model, one.name),
                    encoder.encoders[one.name],
                    labels_of_task(one.name, model.labels),
                    processor,
                    limit,
                    settings,
                )
                for one in config.task.multi_task.tasks
            }
        )
    kind = REWARD_MODEL if settings.objective.reward is not None else config.task.kind
    return Servable({ONLY_HEAD: Head(kind, task, model, encoder, model.labels, processor, limit, settings)})


def positions(model: TrainableModel) -> int:
    """Tokens that the model has places for, those that a prefix takes not among them."""
    tokenizer = getattr(model.tokenizer, "tokenizer", model.tokenizer)
    of_model = getattr(model.base.config.get_text_config(), "max_position_embeddings", None) or _UNLIMITED
    taken = model.module.active_peft_config.num_virtual_tokens if model.has_virtual_tokens else 0
    return int(min(of_model, getattr(tokenizer, "model_max_length", _UNLIMITED)) - taken)


def _with_adapter(module: Any, adapter: Path) -> Any:
    # Without them peft would look for a pickle.
    if not is_adapted(adapter) and not (adapter / ADAPTER_WEIGHTS).is_file():
        raise _invalid(f"The adapter must contain {ADAPTER_WEIGHTS}.")
    try:
        return with_adapter(module, adapter)
    except (ValueError, RuntimeError, KeyError, TypeError, AttributeError, OSError) as error:
        raise _invalid(f"The adapter does not fit the base model: {error}") from error


def _invalid(message: str) -> TrainerError:
    return TrainerError(TrainerReason.MODEL_INVALID, message)
