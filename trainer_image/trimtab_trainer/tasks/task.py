"""What a task brings to the loop: its batches, its loss, its metrics. One file per task implements it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from trimtab_trainer.model import TrainableModel

LOWER_IS_BETTER = ("loss", "perplexity", "error_rate")
"""How the names of metrics end that shall become small."""
Sums = dict[str, Any]
"""Additive counts of a measurement, numbers or arrays of them: summed over batches and ranks before metrics are made."""


class Task(Protocol):
    """The task's part of the loop."""

    @property
    def layout(self) -> str:
        """How examples lie in a batch, for the report."""

    def targets(self, example: Any) -> int:
        """What an example weighs in the loss: predicted tokens, or 1."""

    def collate(self, examples: Sequence[Any]) -> Any:
        """One micro batch on the device."""

    def loss(self, model: TrainableModel, batch: Any) -> Tensor:
        """The SUM of the losses of all targets; the caller divides by the targets of the whole global batch."""

    def measure(self, model: TrainableModel, batch: Any) -> Sums:
        """Counts of one batch, without gradients."""

    def metrics(self, sums: Mapping[str, Any]) -> dict[str, float]:
        """Metrics of the counts of a whole split."""


@runtime_checkable
class Answers(Protocol):
    """A task whose models answer requests. Metrics count the same answers."""

    def answer(self, model: TrainableModel, examples: Sequence[Any]) -> list[Any]:
        """What the model says of each example; what examples say of the truth is not looked at."""


@runtime_checkable
class LaysEndToEnd(Protocol):
    """A task that may need no padding, so that a micro batch costs the sum of its examples."""

    @property
    def pads(self) -> bool:
        """Examples are made as long as the longest of their micro batch after all."""


def has_padding(task: Task) -> bool:
    """A micro batch costs as many times its longest example as it has examples."""
    return not isinstance(task, LaysEndToEnd) or task.pads


@dataclass(frozen=True)
class Round:
    """Where training stands, for tasks that make their own examples."""

    step: int
    """The one that is about to begin; the first is 0."""
    total_steps: int
    examples: Sequence[Any]
    """The training split."""
    rows_of: Callable[[int], Sequence[int]]
    """Indices of the examples of a step."""
    tokens_per_batch: int
    rank: int
    world_size: int
    stop: Callable[[], bool]


@runtime_checkable
class WorksInRounds(Protocol):
    """A task that now and then makes what it learns from."""

    memory: dict[str, Tensor]
    """What it made, for checkpoints; always this very dictionary."""

    def begin_step(self, model: TrainableModel, now: Round) -> Sums:
        """Called before each step, on all ranks; what was counted, over all ranks."""


@runtime_checkable
class Telling(Protocol):
    """A task that counts more than losses while it trains."""

    def take_sums(self) -> Sums:
        """The counts since the last time, with the same names on every process; `tokens` are those that were read."""

    def tell(self, sums: Mapping[str, float]) -> dict[str, float]:
        """More of a line of `metrics.jsonl`, from the counts of some steps and all processes."""


@runtime_checkable
class ComparesWithinSplit(Protocol):
    """A task whose metrics depend on which other examples its split has."""

    def begin_measuring(self, model: TrainableModel, examples: Sequence[Any]) -> None:
        """Called before the batches of a split are measured, with all of its examples."""


@runtime_checkable
class FitsHead(Protocol):
    """A task whose head is fitted, not stepped."""

    def fit_head(self, model: TrainableModel) -> None:
        """Put the head into the model that fits its other weights; before a model is measured or published for good."""


@runtime_checkable
class SkipsInputs(Protocol):
    """A task whose inputs are costly to make."""

    def collate_without_inputs(self, examples: Sequence[Any]) -> Any:
        """A micro batch for a model whose trunk is not asked: whatever stands for the inputs is read by nobody."""
