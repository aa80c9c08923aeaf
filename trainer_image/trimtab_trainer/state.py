"""Everything the loop remembers between two steps: what a checkpoint holds besides tensors."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from trimtab_trainer.model import TrainableModel
from trimtab_trainer.optimizer import load_optimizer, optimizer_tensors
from trimtab_trainer.practices.anchor import Anchor
from trimtab_trainer.sharding import Share


class Best(BaseModel):
    """The best evaluation so far."""

    step: int
    value: float


class LoopState(BaseModel):
    """Counters, history and decisions so far. Random numbers need none: they follow from (seed, step, rank)."""

    model_config = ConfigDict(extra="forbid", validate_assignment=False)

    step: int = 0
    """Optimizer steps done."""
    evaluated_step: int = -1
    """The newest step that was evaluated; -1: not even the base model."""
    tokens: int = 0
    """Tokens read, without padding."""
    targets: int = 0
    """Tokens (or examples) that carried loss."""
    examples: int = 0
    window_loss: float = 0.0
    """Sum of losses since the last line of `metrics.jsonl`."""
    window_targets: int = 0
    window_sums: dict[str, float] = Field(default_factory=dict)
    """What the task counted since then, where it does."""
    judge: str = ""
    """Digest of the reward model; a resumed run must have the same."""
    skipped_steps: int = 0
    """Steps that the watch over divergence left out; they count as steps, but moved nothing."""
    skipped_in_a_row: int = 0
    anchor_penalty: float = 0.0
    """What EWC or L2-SP added to the loss of the newest step."""
    recent_losses: list[float] = Field(default_factory=list)
    """Mean losses of the newest steps, where spikes are watched for."""
    history: list[dict[str, float]] = Field(default_factory=list)
    """The lines of `metrics.jsonl`."""
    best: Best | None = None
    """By `selectBestBy`."""
    stopping_best: float | None = None
    """The best value of the early-stopping metric."""
    evaluations_without_improvement: int = 0
    stopped_early: bool = False
    baseline: dict[str, float] = Field(default_factory=dict)
    """Metrics of the test and general splits before the first step."""
    champion: str = ""
    """Name of the version that was measured as champion."""
    champion_metrics: dict[str, float] = Field(default_factory=dict)
    """What was measured of it; empty where that failed."""
    baseline_answers: list[str] = Field(default_factory=list)
    """What the base model answered to the first test prompts."""
    baseline_losses: list[float] = Field(default_factory=list)
    """The base model's loss on the first held-out examples, one by one."""
    baseline_predicted: list[int] = Field(default_factory=list)
    """The classes that it chose; -1 without classes."""
    precision: str = ""
    """What `precision: auto` chose at the first attempt; later ones must compute the same."""
    micro_batch_size: int | None = None
    """What was left of the micro batch when memory did not suffice; later attempts begin with it."""
    training_seconds: float = 0.0
    """Spent in steps, over all attempts."""

    @property
    def updates(self) -> int:
        """How often the weights moved."""
        return self.step - self.skipped_steps

    def to_document(self) -> dict[str, Any]:
        """JSON; floats survive exactly."""
        return self.model_dump(mode="json")


@dataclass
class RunState:
    """The whole state of a run: the loop's memory, the weights that move, the optimizer, the best weights."""

    loop: LoopState
    model: TrainableModel
    optimizer: Any
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    """Trained weights at `loop.best.step`; empty without selection."""
    average: dict[str, Tensor] = field(default_factory=dict)
    """Running average of the trained weights; empty where none is kept."""
    start_sample: Mapping[str, Tensor] = field(default_factory=dict)
    """Some weights as they were before the first step, to see how far they move."""
    task_memory: dict[str, Tensor] = field(default_factory=dict)
    """What the task made to learn from, where it does; shared with it."""
    anchor: Anchor | None = None
    """Springs of continual learning."""
    starts: Mapping[str, int] = field(default_factory=dict)
    """After how many updates each parameter begins to move; absent: at once."""

    def tensors(self) -> dict[str, Tensor | Share]:
        """What a checkpoint stores, by reference: the writer copies (and collects) before training goes on.

        The best weights are left out while they are the current ones.
        """
        trainable: Mapping[str, nn.Parameter] = self.model.trainable
        weights = {f"weights/{name}": parameter.detach() for name, parameter in trainable.items()}
        moments = optimizer_tensors(self.optimizer, trainable)
        is_current = self.loop.best is not None and self.loop.best.step == self.loop.step
        best = {} if is_current else {f"best/{name}": tensor for name, tensor in self.best_weights.items()}
        average = {f"average/{name}": tensor for name, tensor in self.average.items()}
        fisher = {f"fisher/{name}": tensor for name, tensor in self.anchor.fisher.items()} if self.anchor else {}
        memory = {f"task/{name}": tensor for name, tensor in self.task_memory.items()}
        return {**self.model.shares({**weights, **moments, **best, **average, **fisher}), **memory}

    def restore(self, document: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Become the state that `tensors` and `to_document` described."""
        self.loop = LoopState.model_validate_json(json.dumps(document))
        self.model.load_trainable({name: tensors[f"weights/{name}"] for name in self.model.trainable})
        load_optimizer(self.optimizer, self.model.trainable, tensors, step=self.loop.updates, starts=self.starts)
        memory = {
            name.removeprefix("task/"): tensor.cpu() for name, tensor in tensors.items() if name.startswith("task/")
        }
        self.task_memory.update(memory)
        for name, tensor in self.average.items():
            tensor.copy_(tensors[f"average/{name}"])
        if self.anchor is not None and self.anchor.settings.ewc is not None:
            device = self.model.device
            self.anchor.fisher = {name: tensors[f"fisher/{name}"].to(device) for name in self.model.trainable}
        if self.loop.best is not None:
            if self.loop.best.step == self.loop.step:
                with self.averaged():
                    self.keep_best()
            else:
                device = self.model.device
                self.best_weights = {name: tensors[f"best/{name}"].to(device) for name in self.model.trainable}

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the model has the average of its weights, where one is kept."""
        if not self.average:
            yield
            return
        newest = self.model.copy_of_trainable()
        self.model.load_trainable(self.average)
        try:
            yield
        finally:
            self.model.load_trainable(newest)

    def keep_best(self) -> None:
        """The current weights are the best ones."""
        self.best_weights = self.model.copy_of_trainable()

    def load_best(self) -> int:
        """Put the best weights into the model, if there was a selection, else their average; the step they are from."""
        step = self.loop.step
        if self.loop.best is not None and self.best_weights:
            self.model.load_trainable(self.best_weights)
            step = self.loop.best.step
        elif self.average:
            self.model.load_trainable(self.average)
        self.model.stay_whole()
        return step
