"""Task sequenceClassification: padded batches of like lengths, loss, accuracy, macro precision, recall, F1 and ROC-AUC."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import TaskType
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.data.encoded import Encoded
from trimtab_trainer.data.formats import Example, Labelled
from trimtab_trainer.data.label_encoding import LabelEncoder
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.model import TrainableModel
from trimtab_trainer.practices.classes import class_weights
from trimtab_trainer.reporting.error_analysis import Finding
from trimtab_trainer.tasks.definition import TaskDefinition
from trimtab_trainer.tasks.padding import padded
from trimtab_trainer.tasks.roc import roc_auc, score_counts
from trimtab_trainer.tasks.scores import ratio
from trimtab_trainer.tasks.task import Sums, Task


@dataclass(frozen=True)
class LabelledBatch:
    """A micro batch."""

    inputs: dict[str, Tensor]
    """`input_ids` and `attention_mask`, [rows, tokens]."""
    labels: Tensor
    """[rows]: class indices."""


@dataclass
class SequenceClassification:
    """One label for a whole text."""

    device: torch.device
    pad_id: int
    label_smoothing: float = 0.0
    class_weights: Tensor | None = None
    """[classes]; both are for the training loss alone, measurements have neither."""

    @property
    def layout(self) -> str:
        """How examples lie in a batch, for the report."""
        return "padded rows of like lengths"

    def targets(self, example: Encoded) -> int:
        """Every example weighs the same."""
        return int(example.label >= 0)

    def collate(self, examples: Sequence[Encoded]) -> LabelledBatch:
        """Pad to the longest example."""
        labels = torch.tensor([example.label for example in examples])
        inputs = padded([example.ids for example in examples], pad_id=self.pad_id, device=self.device)
        return LabelledBatch(inputs, labels.to(self.device))

    def loss(self, model: TrainableModel, batch: LabelledBatch) -> Tensor:
        """Sum of the cross-entropies."""
        return nn.functional.cross_entropy(
            self.logits(model, batch),
            batch.labels,
            weight=self.class_weights,
            reduction="sum",
            label_smoothing=self.label_smoothing,
        )

    @torch.no_grad()
    def measure(self, model: TrainableModel, batch: LabelledBatch) -> Sums:
        """Loss, targets, and for each class: how often right, how often predicted, how often true, with which scores."""
        logits = self.logits(model, batch)
        sums = {"targets": float(len(batch.labels))}
        sums["loss"] = float(nn.functional.cross_entropy(logits, batch.labels, reduction="sum"))
        predicted = logits.argmax(-1)
        for label in range(logits.shape[-1]):
            is_predicted, is_true = predicted == label, batch.labels == label
            sums[f"right/{label}"] = float((is_predicted & is_true).sum())
            sums[f"predicted/{label}"] = float(is_predicted.sum())
            sums[f"true/{label}"] = float(is_true.sum())
        return sums | score_counts(logits, batch.labels)

    @torch.no_grad()
    def answer(self, model: TrainableModel, examples: Sequence[Any]) -> list[list[float]]:
        """The score of each class."""
        scores: list[list[float]] = self.scores(self.logits(model, self.collate(examples))).tolist()
        return scores

    def scores(self, logits: Tensor) -> Tensor:
        """[rows, classes]: probabilities; the output itself where there is only one, of a reward model."""
        return logits if logits.shape[-1] == 1 else logits.softmax(-1)

    @torch.no_grad()
    def examine(self, model: TrainableModel, batch: LabelledBatch) -> list[Finding]:
        """Loss and choice for each text."""
        logits = self.logits(model, batch)
        losses = nn.functional.cross_entropy(logits, batch.labels, reduction="none")
        return list(map(Finding, losses.tolist(), logits.argmax(-1).tolist(), batch.labels.tolist()))

    def metrics(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Means over the classes that occur as truth or prediction, as scikit-learn's `average="macro"` has them."""
        names = [name.removeprefix("true/") for name in sums if name.startswith("true/")]
        present = [name for name in names if sums[f"true/{name}"] or sums[f"predicted/{name}"]]
        precision = [ratio(sums[f"right/{name}"], sums[f"predicted/{name}"]) for name in present]
        recall = [ratio(sums[f"right/{name}"], sums[f"true/{name}"]) for name in present]
        f1 = [ratio(2 * p * r, p + r) for p, r in zip(precision, recall, strict=True)]
        return {
            "loss": sums["loss"] / sums["targets"],
            "accuracy": sum(sums[f"right/{name}"] for name in present) / sums["targets"],
            "precision": sum(precision) / len(present),
            "recall": sum(recall) / len(present),
            "f1": sum(f1) / len(present),
            "roc_auc": roc_auc(sums, len(names)),
        }

    def logits(self, model: TrainableModel, batch: LabelledBatch) -> Tensor:
        """[rows, classes] in float32."""
        with model.autocast():
            logits: Any = model.module(**batch.inputs).logits
        return logits.float()


class TextClassification(TaskDefinition):
    """One label for a whole text."""

    metric_names = ("loss", "accuracy", "precision", "recall", "f1", "roc_auc")
    formats = ("labelled",)
    auto_model = AutoModelForSequenceClassification
    pipeline_tag = "text-classification"
    has_fixed_inputs = True
    peft_task_type = TaskType.SEQ_CLS
    smooths_labels = True
    weighs_classes = True
    has_labels = True

    def labels(self, config: RunConfig, examples: Sequence[Example]) -> tuple[str, ...]:
        """As the user states them, or the sorted labels of the training split."""
        task = config.task.sequence_classification
        return choose_labels(task.labels if task else (), labels_in(examples))

    def encoder(self, config: RunConfig, directory: Path, processor: Any, labels: tuple[str, ...]) -> LabelEncoder:
        """Texts cut to the limit, labels to their numbers."""
        del directory
        return LabelEncoder(processor, config.data.max_sequence_length, labels)

    def make(self, config: RunConfig, model: TrainableModel, train: Sequence[Encoded]) -> tuple[Task, str]:
        """Padded rows of like lengths."""
        task = SequenceClassification(
            model.device,
            model.tokenizer.pad_token_id,
            label_smoothing=config.training.label_smoothing,
            class_weights=class_weights(config, model, train),
        )
        return task, ""


def labels_in(examples: Sequence[Example]) -> set[str]:
    """The labels that occur."""
    return {example.content.label for example in examples if isinstance(example.content, Labelled)}


def choose_labels(stated: Sequence[str], found: Collection[str]) -> tuple[str, ...]:
    """The labels in the order of the head's outputs.

    Raises:
        TrainerError: DatasetInvalid where there are fewer than two.
    """
    labels = tuple(stated) or tuple(sorted(found))
    if len(set(labels)) < 2 or len(set(labels)) != len(labels):  # noqa: PLR2004 - one label is no choice
        raise TrainerError(
            TrainerReason.DATASET_INVALID,
            f"A classifier needs at least two different labels; got: {', '.join(labels) or 'none'}.",
        )
    return labels
