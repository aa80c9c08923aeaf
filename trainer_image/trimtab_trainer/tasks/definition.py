"""What a task (with its objective) brings besides the loop's part: model class, formats, encoder, names for users."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from peft import TaskType

from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.contract.spec import DataFormat
from trimtab_trainer.data.encoded import ModelInput, show
from trimtab_trainer.data.formats import Example
from trimtab_trainer.model import TrainableModel, load_tokenizer
from trimtab_trainer.tasks.task import Task


class Encoder(Protocol):
    """Examples to what a model reads."""

    def encode(self, examples: Iterable[Example]) -> Sequence[ModelInput]:
        """All examples in their order."""
        ...


class TaskDefinition(ABC):
    """One member of `spec.task`, or an objective over one. Definitions have no state: everything is in the RunConfig."""

    metric_names: Sequence[str]
    """The metrics it measures, without the split's prefix."""
    formats: tuple[DataFormat, ...]
    """The data formats it can learn from."""
    auto_model: Any
    """The class of transformers that loads the model, by which users load it too."""
    pipeline_tag: str
    """The task's name on a model card."""
    has_labels = False
    """Its head has one output for each label."""
    auto_processor = "AutoTokenizer"
    """The class of transformers that loads the processor."""
    processor_name = "tokenizer"
    """What users call it."""
    peft_task_type: TaskType | None = None
    has_new_head: bool = True
    """Weights that the model's files lack are the task's new head; otherwise they are an error."""
    epochs: float = 1.0
    """Passes over the training split, where the user says nothing."""
    learning_rate_divisor: float = 1.0
    """Of the method's default rate: some objectives ask for smaller steps."""
    packs: bool = False
    """Several examples may share a row."""
    smooths_labels: bool = False
    """`training.labelSmoothing` has a meaning."""
    has_fixed_inputs: bool = False
    """What is frozen makes the same of an example every time, row by row: `method.headOnly` and `method.partial` may keep it."""
    weighs_classes: bool = False
    """Each example has one class: `training.classWeights` and `training.balancedSampling` have a meaning."""

    def labels(self, config: RunConfig, examples: Sequence[Example]) -> tuple[str, ...]:
        """The labels in the order of the head's outputs, from the training split; empty for tasks without labels."""
        del config, examples
        return ()

    def formats_by_task(self) -> dict[str, tuple[DataFormat, ...]]:
        """The data formats of each of several tasks; empty where there is only one."""
        return {}

    def sampling(self, train: Sequence[Any]) -> list[float] | None:
        """How likely each training example is drawn; None: an epoch has each once."""
        del train
        return None

    def metrics_of(self, config: RunConfig) -> Sequence[str]:
        """The metrics that this run measures, without the split's prefix."""
        del config
        return self.metric_names

    def changing_inputs(self, config: RunConfig) -> str:
        """The field that changes inputs at random while training; "" where none does."""
        del config
        return ""

    def load_processor(self, directory: Path) -> Any:
        """What turns the user's data into tensors and is saved beside the model."""
        return load_tokenizer(directory)

    def load_arguments(self, config: RunConfig, labels: Sequence[str]) -> dict[str, Any]:
        """More arguments of `from_pretrained`."""
        del config
        if not labels:
            return {}
        # With another number of labels than an already fine-tuned model has, its head is made anew.
        return {
            "num_labels": len(labels),
            "id2label": dict(enumerate(labels)),
            "label2id": {label: number for number, label in enumerate(labels)},
            "ignore_mismatched_sizes": True,
        }

    def complete(self, config: RunConfig, model: Any, directory: Path) -> None:
        """Change a whole model before any of it moves. Not where an adapter is trained, which must fit the base model as it is."""
        del config, model, directory

    def data_warnings(self, encoder: Any, train: Sequence[Any]) -> list[str]:
        """What a user should know about the training split before it trains."""
        del encoder, train
        return []

    def show(self, example: Any, processor: Any) -> list[tuple[bool, str]]:
        """One example as the model sees it, for the report: `(carries loss, text)`."""
        return show(example, processor)

    def loading_code(self) -> str:
        """Python that loads a published model: `model` and its processor."""
        auto = self.auto_model.__name__
        return (
            f"from transformers import {self.auto_processor}, {auto}\n\n"
            f'model = {auto}.from_pretrained("MODEL_DIRECTORY")\n'
            f'{self.processor_name} = {self.auto_processor}.from_pretrained("MODEL_DIRECTORY")'
        )

    @property
    def auto_name(self) -> str:
        """The class of transformers by which users load the base model under an adapter."""
        return str(self.auto_model.__name__)

    def base_code(self, name: str) -> str:
        """Python that loads the model `name` as the `base` of an adapter."""
        labels = ", num_labels=len(LABELS)" if self.has_labels else ""
        return f'base = {self.auto_name}.from_pretrained("{name}"{labels})'

    @abstractmethod
    def encoder(self, config: RunConfig, directory: Path, processor: Any, labels: tuple[str, ...]) -> Encoder:
        """From the user's words to the model's numbers."""

    @abstractmethod
    def make(self, config: RunConfig, model: TrainableModel, train: Sequence[Any]) -> tuple[Task, str]:
        """The loop's part, and a warning for the user ("" for none)."""
