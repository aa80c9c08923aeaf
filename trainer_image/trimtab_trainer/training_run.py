"""What the training loop works with, and when which part of it is due."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.data.batches import BatchPlan, Row, even_batches, micro_batches
from trimtab_trainer.data.encoded import cost
from trimtab_trainer.data.splits import Split
from trimtab_trainer.model import TrainableModel
from trimtab_trainer.practices.adversarial import Attack
from trimtab_trainer.state import RunState
from trimtab_trainer.tasks.task import Task, has_padding
from trimtab_trainer.world import World


@dataclass
class TrainingRun:
    """What the loop works with."""

    config: RunConfig
    model: TrainableModel
    task: Task
    train: Split
    validation: Split | None
    plan: BatchPlan
    micro_batch_size: int
    total_steps: int
    learning_rate: float
    """At the peak of the schedule."""
    state: RunState
    save: Callable[[], None]
    """Hand the state to the checkpoint writer: all of it on the main process, on the others what it lacks, if anything."""
    stop: Callable[[], bool]  # SIGTERM has come
    report: Callable[["TrainingRun"], None]
    """Tell the operator how far the run is."""
    world: World = field(default_factory=World)
    attack: Attack | None = None
    """Adversarial training."""
    warn: Callable[[str], None] = lambda _: None
    saved: tuple[int, int] = (0, -1)
    """(step, evaluated step) of the newest checkpoint; at step 0 there is nothing to save."""
    saved_at: float = field(default_factory=time.monotonic)
    tokens_per_second: float | None = None
    stepping_seconds: float = 0.0
    stepped: int = 0
    """Steps of this attempt, and the time they took."""

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return self.state.loop.step

    @property
    def epoch(self) -> float:
        """Passes over the training split so far."""
        return self.step / self.plan.steps_per_epoch

    @property
    def is_finished(self) -> bool:
        """Nothing is left to train."""
        return self.step >= self.total_steps or self.state.loop.stopped_early

    def micro_batches(self, rows: Sequence[Row]) -> Sequence[Sequence[Row]]:
        """What goes through the model at once: the rows the user asked for, or as many tokens as were found to fit."""

        def length(row: Row) -> int:
            return sum(cost(self.train.encoded[index]) for index in row)

        size = self.micro_batch_size if self.has_given_size else None
        if size is None and not has_padding(self.task):
            return even_batches(rows, tokens=self.tokens_per_batch, length=length)
        return micro_batches(rows, size=size, tokens=self.tokens_per_batch, length=length)

    @property
    def has_given_size(self) -> bool:
        """The user counts rows; otherwise the trainer counts tokens."""
        training = self.config.training
        return training.micro_batch_size is not None or training.gradient_accumulation_steps is not None

    @property
    def tokens_per_batch(self) -> int:
        """Upper limit of tokens in a forward pass."""
        return self.micro_batch_size * self.config.data.max_sequence_length

    @property
    def is_saved(self) -> bool:
        """There is a checkpoint of exactly this state."""
        return self.step == 0 or self.saved == (self.step, self.state.loop.evaluated_step)

    def is_evaluation_due(self) -> bool:
        """At the start (the base model), every n steps, and at the end."""
        if self.validation is None or self.state.loop.evaluated_step == self.step:
            return False
        every = (
            self.config.training.evaluate_every_steps
            or self.config.checkpoints.every_steps
            or self.plan.steps_per_epoch
        )
        return self.step % every == 0 or self.is_finished

    def is_checkpoint_due(self) -> bool:
        """By steps or by time, whichever comes first, and at the end."""
        if self.is_saved:
            return False
        settings = self.config.checkpoints
        by_steps = settings.every_steps is not None and self.step % settings.every_steps == 0
        by_time = settings.every_seconds is not None and time.monotonic() - self.saved_at >= settings.every_seconds
        return by_steps or by_time or self.is_finished
