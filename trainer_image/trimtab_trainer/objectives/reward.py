"""Objective reward: one number for a conversation, higher for the answer that people chose (Bradley-Terry)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import TaskType
from torch import Tensor
from torch.nn.functional import logsigmoid
from transformers import AutoModelForSequenceClassification

from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.contract.spec import DataFormat
from trimtab_trainer.data.encoded import Encoded, Pair
from trimtab_trainer.data.formats import Example
from trimtab_trainer.model import TrainableModel
from trimtab_trainer.objectives.preference import pair_encoder, pair_metrics
from trimtab_trainer.tasks.definition import Encoder, TaskDefinition
from trimtab_trainer.tasks.sequence_classification import SequenceClassification
from trimtab_trainer.tasks.task import Sums, Task

REWARD = "reward"
"""Name of the head's only output."""


@dataclass(frozen=True)
class Rewards:
    """What a reward model says of some pairs."""

    chosen: Tensor
    """[pairs]."""
    rejected: Tensor


def bradley_terry_losses(rewards: Rewards, *, centering: float) -> Tensor:
    """[pairs]: -log sigmoid of the difference, as equation 1 of arXiv:2203.02155 and TRL's RewardTrainer have it."""
    losses = -logsigmoid(rewards.chosen - rewards.rejected)
    return losses + centering * (rewards.chosen + rewards.rejected) ** 2


@dataclass
class RewardModeling:
    """Pairs of conversations, scored at their last token."""

    classification: SequenceClassification
    """Whose batches and logits these are; the only class is the reward."""
    centering: float

    @property
    def layout(self) -> str:
        """How examples lie in a batch, for the report."""
        return f"pairs, {self.classification.layout}"

    def targets(self, example: Encoded) -> int:
        """Every pair weighs the same."""
        return int(example.is_learnable)

    def collate(self, examples: Sequence[Encoded]) -> Any:
        """All chosen sequences, then all rejected ones."""
        pairs = [example for example in examples if isinstance(example, Pair)]
        return self.classification.collate([*(pair.chosen for pair in pairs), *(pair.rejected for pair in pairs)])

    def loss(self, model: TrainableModel, batch: Any) -> Tensor:
        """Sum over the pairs."""
        return bradley_terry_losses(self.rewards(model, batch), centering=self.centering).sum()

    @torch.no_grad()
    def measure(self, model: TrainableModel, batch: Any) -> Sums:
        """Losses, right choices and margins."""
        found = self.rewards(model, batch)
        return {
            "targets": float(len(found.chosen)),
            "loss": float(bradley_terry_losses(found, centering=self.centering).sum()),
            "right": float((found.chosen > found.rejected).sum()),
            "margin": float((found.chosen - found.rejected).sum()),
        }

    @torch.no_grad()
    def answer(self, model: TrainableModel, examples: Sequence[Encoded]) -> list[list[float]]:
        """The reward of each conversation, as a list of one."""
        return self.classification.answer(model, examples)

    def metrics(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Means over the pairs."""
        return pair_metrics(sums)

    def rewards(self, model: TrainableModel, batch: Any) -> Rewards:
        """The head's output of each sequence."""
        scores = self.classification.logits(model, batch)[:, 0]
        return Rewards(*scores.split(len(scores) // 2))


class RewardModels(TaskDefinition):
    """A language model whose head is one number."""

    metric_names = ("loss", "accuracy", "margin")
    formats: tuple[DataFormat, ...] = ("preference",)
    auto_model = AutoModelForSequenceClassification
    pipeline_tag = "text-classification"
    peft_task_type = TaskType.SEQ_CLS
    has_labels = True

    def labels(self, config: RunConfig, examples: Sequence[Example]) -> tuple[str, ...]:
        """One output; another head that a classifier has is made anew."""
        del config, examples
        return (REWARD,)

    def base_code(self, name: str) -> str:
        """One output, whatever it is called."""
        return super().base_code(name).replace("len(LABELS)", "1")

    def encoder(self, config: RunConfig, directory: Path, processor: Any, labels: tuple[str, ...]) -> Encoder:
        """Both answers with their prompt."""
        del labels
        return pair_encoder(config, directory, processor)

    def make(self, config: RunConfig, model: TrainableModel, train: Sequence[Encoded]) -> tuple[Task, str]:
        """Padded rows of like lengths."""
        del train
        settings = config.objective.reward
        classification = SequenceClassification(model.device, model.tokenizer.pad_token_id)
        return RewardModeling(classification, settings.centering if settings else 0.0), ""
