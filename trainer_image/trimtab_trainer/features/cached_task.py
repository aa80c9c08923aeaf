"""A task that does not ask the frozen part again about examples that it has been asked about."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from trimtab_trainer.features.table import FeatureTable
from trimtab_trainer.features.trunk import FrozenTrunk
from trimtab_trainer.model import TrainableModel
from trimtab_trainer.tasks.task import SkipsInputs, Sums, Task, has_padding


@dataclass(frozen=True)
class KnownBatch:
    """A micro batch whose features are known."""

    batch: Any
    """The task's own."""
    rows: Sequence[int]
    """Of the table, in the batch's order; none where the trunk must run."""


@dataclass(frozen=True)
class CachedTask:
    """The same losses and measurements, up to rounding, without the frozen part."""

    task: Task
    trunk: FrozenTrunk
    table: FeatureTable
    rows: Mapping[int, range]
    """The rows of each example, by the example's identity."""

    @property
    def layout(self) -> str:
        """How examples lie in a batch, for the report."""
        return f"{self.task.layout}, from features computed once"

    @property
    def pads(self) -> bool:
        """As the task does."""
        return has_padding(self.task)

    def targets(self, example: Any) -> int:
        """What an example weighs in the loss."""
        return self.task.targets(example)

    def collate(self, examples: Sequence[Any]) -> KnownBatch:
        """One micro batch; inputs that nothing reads are not read either."""
        if not all(id(example) in self.rows for example in examples):
            return KnownBatch(self.task.collate(examples), ())
        rows = [row for example in examples for row in self.rows[id(example)]]
        if isinstance(self.task, SkipsInputs) and not self.trunk.reads_inputs:
            return KnownBatch(self.task.collate_without_inputs(examples), rows)
        return KnownBatch(self.task.collate(examples), rows)

    def loss(self, model: TrainableModel, batch: KnownBatch) -> Tensor:
        """The sum of the losses of all targets."""
        if not batch.rows:
            return self.task.loss(model, batch.batch)
        with self.trunk.giving(self.table.get(batch.rows, model.device)):
            return self.task.loss(model, batch.batch)

    def measure(self, model: TrainableModel, batch: KnownBatch) -> Sums:
        """Counts of one batch, without gradients."""
        if not batch.rows:
            return self.task.measure(model, batch.batch)
        with self.trunk.giving(self.table.get(batch.rows, model.device)):
            return self.task.measure(model, batch.batch)

    def metrics(self, sums: Mapping[str, Any]) -> dict[str, float]:
        """Metrics of the counts of a whole split."""
        return self.task.metrics(sums)
