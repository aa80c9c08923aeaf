"""Task sequenceClassification with `multiLabel`: each label is decided by itself (sigmoid and binary cross-entropy)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peft import TaskType
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.data.annotations import MultiLabelled
from trimtab_trainer.data.formats import Example
from trimtab_trainer.data.labels import LabelNumbers
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.model import TrainableModel
from trimtab_trainer.reporting.error_analysis import Finding
from trimtab_trainer.tasks.definition import TaskDefinition
from trimtab_trainer.tasks.padding import padded
from trimtab_trainer.tasks.scores import precision_recall_f1
from trimtab_trainer.tasks.sequence_classification import LabelledBatch, SequenceClassification
from trimtab_trainer.tasks.task import Sums, Task


@dataclass(frozen=True, slots=True)
class MultiLabelInput:
    """A text and what is true of it."""

    ids: NDArray[np.int32]
    truths: NDArray[np.float32]
    """[labels]: 1 where a label is true."""
    cut: bool

    targets = 0
    is_learnable = True

    @property
    def length(self) -> int:
        """Tokens."""
        return len(self.ids)


@dataclass(frozen=True)
class MultiLabelEncoder:
    """Texts to tokens, sets of labels to zeros and ones."""

    tokenizer: Any
    max_length: int
    labels: tuple[str, ...]

    def encode(self, examples: Iterable[Example]) -> list[MultiLabelInput]:
        """All examples in their order.

        Raises:
            TrainerError: DatasetInvalid naming the first row with an unknown label.
        """
        numbers = LabelNumbers(self.labels)
        return [self._encode(example.place, example.content, numbers) for example in examples]

    def encode_texts(self, texts: Sequence[str]) -> list[MultiLabelInput]:
        """Texts of which nothing is known yet."""
        return [self._encode_text(text, np.zeros(len(self.labels), np.float32)) for text in texts]

    def _encode(self, place: str, content: Any, numbers: LabelNumbers) -> MultiLabelInput:
        truths: NDArray[np.float32] = np.zeros(len(self.labels), np.float32)
        for label in content.labels:
            truths[numbers.of(label, place)] = 1
        return self._encode_text(content.text, truths)

    def _encode_text(self, text: str, truths: NDArray[np.float32]) -> MultiLabelInput:
        whole = len(self.tokenizer(text).input_ids)
        kept = self.tokenizer(text, truncation=True, max_length=self.max_length).input_ids
        return MultiLabelInput(np.asarray(kept, np.int32), truths, cut=whole > len(kept))


class MultiLabel(SequenceClassification):
    """Any number of labels for a whole text."""

    def targets(self, example: Any) -> int:
        """Every example weighs the same."""
        del example
        return 1

    def collate(self, examples: Sequence[Any]) -> LabelledBatch:
        """Pad to the longest example; `labels` are [rows, labels] in float32."""
        truths = torch.from_numpy(np.stack([example.truths for example in examples]))
        inputs = padded([example.ids for example in examples], pad_id=self.pad_id, device=self.device)
        return LabelledBatch(inputs, truths.to(self.device))

    def loss(self, model: TrainableModel, batch: LabelledBatch) -> Tensor:
        """Sum over the examples of the mean binary cross-entropy over the labels."""
        return _loss(self.logits(model, batch), batch.labels)

    @torch.no_grad()
    def measure(self, model: TrainableModel, batch: LabelledBatch) -> Sums:
        """Loss, examples that are right as a whole, and counts for each label."""
        logits = self.logits(model, batch)
        predicted, true = logits > 0, batch.labels > 0  # a probability above one half
        return {
            "loss": float(_loss(logits, batch.labels)),
            "targets": float(len(true)),
            "exact": float((predicted == true).all(-1).sum()),
            "right": (predicted & true).sum(0).double().cpu().numpy(),
            "predicted": predicted.sum(0).double().cpu().numpy(),
            "true": true.sum(0).double().cpu().numpy(),
        }

    def scores(self, logits: Tensor) -> Tensor:
        """[rows, labels]: the probability of each label by itself."""
        return logits.sigmoid()

    @torch.no_grad()
    def examine(self, model: TrainableModel, batch: LabelledBatch) -> list[Finding]:
        """Loss of each text; there is no one label to confuse with another."""
        return [Finding(loss) for loss in _losses(self.logits(model, batch), batch.labels).tolist()]

    def metrics(self, sums: Mapping[str, Any]) -> dict[str, float]:
        """As scikit-learn's `average="micro"` and `"macro"` over all labels, and the share of examples right as a whole."""
        counts = [sums[name] for name in ("right", "predicted", "true")]
        precision, recall, f1_micro = precision_recall_f1(*(float(count.sum()) for count in counts))
        per_label = [precision_recall_f1(*of_label)[2] for of_label in zip(*counts, strict=True)]
        return {
            "loss": sums["loss"] / sums["targets"],
            "subset_accuracy": sums["exact"] / sums["targets"],
            "precision": precision,
            "recall": recall,
            "f1_micro": f1_micro,
            "f1_macro": float(np.mean(per_label)),
        }


def _loss(logits: Tensor, truths: Tensor) -> Tensor:
    return _losses(logits, truths).sum()


def _losses(logits: Tensor, truths: Tensor) -> Tensor:
    return nn.functional.binary_cross_entropy_with_logits(logits, truths, reduction="none").mean(-1)


class MultiLabelClassification(TaskDefinition):
    """Any number of labels for a whole text."""

    metric_names = ("loss", "subset_accuracy", "precision", "recall", "f1_micro", "f1_macro")
    formats = ("multiLabelled",)
    auto_model = AutoModelForSequenceClassification
    pipeline_tag = "text-classification"
    has_fixed_inputs = True
    peft_task_type = TaskType.SEQ_CLS
    has_labels = True

    def labels(self, config: RunConfig, examples: Sequence[Example]) -> tuple[str, ...]:
        """As the user states them, or the sorted labels of the training split."""
        task = config.task.sequence_classification
        found = {label for one in examples if isinstance(one.content, MultiLabelled) for label in one.content.labels}
        labels = tuple(task.labels if task else ()) or tuple(sorted(found))
        if not labels or len(set(labels)) != len(labels):
            raise TrainerError(
                TrainerReason.DATASET_INVALID,
                f"Multi-label classification needs at least one label, each once; got: {', '.join(labels) or 'none'}.",
            )
        return labels

    def load_arguments(self, config: RunConfig, labels: Sequence[str]) -> dict[str, Any]:
        """The configuration says that each label has a probability of its own."""
        return {**super().load_arguments(config, labels), "problem_type": "multi_label_classification"}

    def encoder(self, config: RunConfig, directory: Path, processor: Any, labels: tuple[str, ...]) -> Any:
        """Texts cut to the limit, labels to zeros and ones."""
        del directory
        return MultiLabelEncoder(processor, config.data.max_sequence_length, labels)

    def make(self, config: RunConfig, model: TrainableModel, train: Sequence[Any]) -> tuple[Task, str]:
        """Padded rows of like lengths."""
        del config, train
        return MultiLabel(model.device, model.tokenizer.pad_token_id), ""

    def show(self, example: MultiLabelInput, processor: Any) -> list[tuple[bool, str]]:
        """The text; its labels carry the loss."""
        return [(False, processor.decode(example.ids))]
