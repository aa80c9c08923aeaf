"""What a task brings to the loop: its batches, its loss, its metrics. One file per task implements it."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor

from trimtab_trainer.data.encoding import Encoded
from trimtab_trainer.model import TrainableModel

Sums = dict[str, float]
"""Additive counts of a measurement: they are summed over batches and ranks before metrics are made of them."""


class Task(Protocol):
    """The task's part of the loop."""

    @property
    def layout(self) -> str:
        """How examples lie in a batch, for the report."""

    def targets(self, example: Encoded) -> int:
        """What an example weighs in the loss: predicted tokens, or 1."""

    def collate(self, examples: Sequence[Encoded]) -> Any:
        """One micro batch on the device."""

    def loss(self, model: TrainableModel, batch: Any) -> Tensor:
        """The SUM of the losses of all targets; the caller divides by the targets of the whole global batch."""

    def measure(self, model: TrainableModel, batch: Any) -> Sums:
        """Counts of one batch, without gradients."""

    def metrics(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Metrics of the counts of a whole split."""
