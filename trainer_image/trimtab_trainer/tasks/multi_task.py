"""Task multiTask: several tasks on texts over one shared trunk, a head for each, sampled by temperature."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trimtab_trainer.contract import spec
from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.contract.tasks import MultiTask, NamedTask
from trimtab_trainer.data.annotations import OfTask
from trimtab_trainer.data.formats import Example
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.model import TrainableModel
from trimtab_trainer.tasks.definition import Encoder, TaskDefinition
from trimtab_trainer.tasks.multi_label import MultiLabelClassification
from trimtab_trainer.tasks.multi_task_model import HeadShape, MultiTaskModel
from trimtab_trainer.tasks.question_answering import ExtractiveQuestionAnswering
from trimtab_trainer.tasks.sequence_classification import TextClassification
from trimtab_trainer.tasks.task import Sums, Task
from trimtab_trainer.tasks.token_classification import WordTagging

SPAN_OUTPUTS = ("start", "end")
SEPARATOR = "/"


@dataclass(frozen=True)
class InputOfTask:
    """An example of one of the tasks."""

    task: str
    inner: Any

    @property
    def length(self) -> int:
        """Tokens."""
        return int(self.inner.length)

    @property
    def targets(self) -> int:
        """What carries loss."""
        return int(self.inner.targets)

    @property
    def is_learnable(self) -> bool:
        """Something carries loss."""
        return bool(self.inner.is_learnable)

    @property
    def cut(self) -> bool:
        """A part of it is not seen."""
        return bool(self.inner.cut)


@dataclass(frozen=True)
class EncoderOfTasks:
    """Each example by its own task's encoder."""

    encoders: Mapping[str, Encoder]

    def encode(self, examples: Iterable[Example]) -> list[InputOfTask]:
        """All examples in their order.

        Raises:
            TrainerError: DatasetInvalid where a split has nothing of a task, or what the encoders raise.
        """
        contents = [(one.place, one.content) for one in examples if isinstance(one.content, OfTask)]
        found: dict[str, list[Any]] = {}
        for name, encoder in self.encoders.items():
            own = [Example(place, content.content) for place, content in contents if content.task == name]
            if contents and not own:
                raise TrainerError(
                    TrainerReason.DATASET_INVALID,
                    f"A split has examples of {contents[0][1].task} and none of {name}: every split needs some of every task.",
                )
            found[name] = list(encoder.encode(own))
        queues = {name: iter(inputs) for name, inputs in found.items()}
        return [InputOfTask(content.task, next(queues[content.task])) for _, content in contents]


class HeadOfModel:
    """The model as one task sees it: its own head's logits."""

    def __init__(self, model: TrainableModel, name: str) -> None:
        self._model, self._name = model, name
        self.config = model.base.config

    def __call__(self, **inputs: Any) -> Any:
        """A forward pass."""
        return self._model.module(head=self._name, **inputs)


@dataclass
class SeveralTasks:
    """Batches of several tasks: one forward pass for each task in it."""

    tasks: Mapping[str, Task]
    weights: Mapping[str, float]
    """Of the losses: those of the specification, divided by the targets of an average example."""
    _nothing: dict[str, Any] = field(default_factory=dict)
    """Counts of zero for each task of the split that is measured: every rank must have the same ones."""

    @property
    def layout(self) -> str:
        """How examples lie in a batch, for the report."""
        return "padded rows of like lengths, each task by itself"

    def targets(self, example: InputOfTask) -> int:
        """Every example weighs the same."""
        del example
        return 1

    def collate(self, examples: Sequence[InputOfTask]) -> dict[str, Any]:
        """The batch of each task that occurs."""
        groups: dict[str, list[Any]] = {}
        for example in examples:
            groups.setdefault(example.task, []).append(example.inner)
        return {name: self.tasks[name].collate(groups[name]) for name in self.tasks if name in groups}

    def loss(self, model: TrainableModel, batch: Mapping[str, Any]) -> Tensor:
        """Weighted sum of the tasks' losses."""
        losses = [self.weights[name] * self.tasks[name].loss(view(model, name), inner) for name, inner in batch.items()]
        return torch.stack(losses).sum()

    def begin_measuring(self, model: TrainableModel, examples: Sequence[InputOfTask]) -> None:
        """Which counts there will be."""
        first = {example.task: example.inner for example in reversed(examples)}
        self._nothing = {}
        for name, inner in first.items():
            counts = self.tasks[name].measure(view(model, name), self.tasks[name].collate([inner]))
            self._nothing |= {f"{name}{SEPARATOR}{key}": np.zeros_like(value) for key, value in counts.items()}

    def measure(self, model: TrainableModel, batch: Mapping[str, Any]) -> Sums:
        """The counts of each task."""
        sums = dict(self._nothing)
        for name, inner in batch.items():
            counts = self.tasks[name].measure(view(model, name), inner)
            sums |= {f"{name}{SEPARATOR}{key}": value for key, value in counts.items()}
        return sums

    def metrics(self, sums: Mapping[str, Any]) -> dict[str, float]:
        """The metrics of each task, named after it, and the mean of their losses."""
        found = {
            f"{name}_{key}": value
            for name, task in self.tasks.items()
            if (
                own := {
                    key.removeprefix(name + SEPARATOR): v for key, v in sums.items() if key.startswith(name + SEPARATOR)
                }
            )
            for key, value in task.metrics(own).items()
        }
        losses = [found[f"{name}_loss"] for name in self.tasks if f"{name}_loss" in found]
        return {"loss": sum(losses) / len(losses), **found}


def view(model: TrainableModel, name: str) -> TrainableModel:
    """The model with one head."""
    return replace(model, module=HeadOfModel(model, name))


class MultiTaskLearning(TaskDefinition):
    """Several tasks over one trunk."""

    auto_model = MultiTaskModel
    pipeline_tag = "feature-extraction"

    def __init__(self, settings: MultiTask) -> None:
        self.settings = settings
        self.heads = {one.name: _definition(one) for one in settings.tasks}
        self.formats = ()
        self.metric_names = ["loss", *(f"{name}_{key}" for name, one in self.heads.items() for key in one.metric_names)]

    def formats_by_task(self) -> dict[str, tuple[spec.DataFormat, ...]]:
        """Each task reads its own rows."""
        return {name: definition.formats for name, definition in self.heads.items()}

    def labels(self, config: RunConfig, examples: Sequence[Example]) -> tuple[str, ...]:
        """The outputs of all heads, `name/label`; spans have the outputs `start` and `end`."""
        found: list[str] = []
        for one in self.settings.tasks:
            own = [
                Example(example.place, example.content.content)
                for example in examples
                if isinstance(example.content, OfTask) and example.content.task == one.name
            ]
            labels = self.heads[one.name].labels(_config_of(config, one), own) or SPAN_OUTPUTS
            found += [f"{one.name}{SEPARATOR}{label}" for label in labels]
        return tuple(found)

    def load_arguments(self, config: RunConfig, labels: Sequence[str]) -> dict[str, Any]:
        """The shapes of the heads."""
        del config
        outputs = Counter(label.partition(SEPARATOR)[0] for label in labels)
        whole = {one.name for one in self.settings.tasks if one.head.sequence_classification is not None}
        return {"heads": {name: HeadShape(count, name in whole) for name, count in outputs.items()}}

    def encoder(self, config: RunConfig, directory: Path, processor: Any, labels: tuple[str, ...]) -> EncoderOfTasks:
        """The encoders of all tasks."""
        return EncoderOfTasks(
            {
                one.name: self.heads[one.name].encoder(
                    _config_of(config, one), directory, processor, labels_of_task(one.name, labels)
                )
                for one in self.settings.tasks
            }
        )

    def make(self, config: RunConfig, model: TrainableModel, train: Sequence[InputOfTask]) -> tuple[Task, str]:
        """The tasks, their losses weighed so that an average example of each weighs the same."""
        tasks: dict[str, Task] = {}
        weights: dict[str, float] = {}
        for one in self.settings.tasks:
            own = [example.inner for example in train if example.task == one.name]
            seen = replace(view(model, one.name), labels=labels_of_task(one.name, model.labels))
            tasks[one.name], _ = self.heads[one.name].make(_config_of(config, one), seen, own)
            mean = sum(map(tasks[one.name].targets, own)) / max(len(own), 1)
            weights[one.name] = one.weight / max(mean, 1.0)
        return SeveralTasks(tasks, weights), ""

    def sampling(self, train: Sequence[InputOfTask]) -> list[float] | None:
        """How likely each example is drawn; None where all are as likely."""
        if self.settings.temperature == 1:
            return None
        counts = Counter(example.task for example in train)
        shares = {name: count ** (1 / self.settings.temperature) for name, count in counts.items()}
        whole = sum(shares.values())
        return [shares[example.task] / whole / counts[example.task] for example in train]

    def show(self, example: InputOfTask, processor: Any) -> list[tuple[bool, str]]:
        """As the example's own task shows it."""
        return self.heads[example.task].show(example.inner, processor)

    def loading_code(self) -> str:
        """The trunk by transformers, heads as matrices."""
        return (
            "from safetensors.torch import load_file\nfrom transformers import AutoModel, AutoTokenizer\n\n"
            'trunk = AutoModel.from_pretrained("MODEL_DIRECTORY")\n'
            'tokenizer = AutoTokenizer.from_pretrained("MODEL_DIRECTORY")\n'
            'heads = load_file("MODEL_DIRECTORY/heads.safetensors")  # outputs are named in labels.json\n'
            'states = trunk(**tokenizer("...", return_tensors="pt")).last_hidden_state\n'
            "# Heads of whole texts read states.mean(1), the others every token.\n"
            f'logits = states.mean(1) @ heads["{self.settings.tasks[0].name}_head.weight"].T + '
            f'heads["{self.settings.tasks[0].name}_head.bias"]'
        )

    @property
    def auto_name(self) -> str:
        """Of the trunk."""
        return "AutoModel"

    def base_code(self, name: str) -> str:
        """The trunk and the heads under the names that the adapter knows them by."""
        return (
            "import json\nfrom collections import Counter\nfrom pathlib import Path\nfrom torch import nn\n\n"
            'LABELS = json.loads(Path("ADAPTER_DIRECTORY/labels.json").read_text())  # the heads\' outputs, "task/label"\n\n'
            "class Tasks(nn.Module):\n"
            "    def __init__(self, trunk):\n"
            "        super().__init__()\n"
            '        outputs = Counter(label.partition("/")[0] for label in LABELS)\n'
            "        width = trunk.config.hidden_size\n"
            "        self.trunk = trunk\n"
            '        self.heads = nn.ModuleDict({f"{name}_head": nn.Linear(width, n) for name, n in outputs.items()})\n\n'
            f'base = Tasks(AutoModel.from_pretrained("{name}"))'
        )


def _definition(one: NamedTask) -> TaskDefinition:
    head = one.head
    if head.sequence_classification is not None:
        return MultiLabelClassification() if head.sequence_classification.multi_label else TextClassification()
    return WordTagging() if head.token_classification is not None else ExtractiveQuestionAnswering()


def _config_of(config: RunConfig, one: NamedTask) -> RunConfig:
    """The configuration as if the task were alone."""
    head = one.head
    task = spec.Task(
        sequence_classification=head.sequence_classification,
        token_classification=head.token_classification,
        question_answering=head.question_answering,
    )
    return config.model_copy(update={"task": task})


def labels_of_task(name: str, labels: Sequence[str]) -> tuple[str, ...]:
    """The outputs of one task's head, by its own names."""
    prefix = name + SEPARATOR
    return tuple(label.removeprefix(prefix) for label in labels if label.startswith(prefix))
