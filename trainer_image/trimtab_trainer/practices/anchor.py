"""Springs that hold weights near where they started: EWC (arXiv:1612.00796) and L2-SP (arXiv:1802.01483).

Their gradient is added to the summed one, so that no forward pass is needed for it and every rank adds the same.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from trimtab_trainer.contract.practices import Continual
from trimtab_trainer.data.encoded import ModelInput
from trimtab_trainer.distributed import sum_gradients
from trimtab_trainer.interruption import Interruption
from trimtab_trainer.model import TrainableModel
from trimtab_trainer.tasks.task import Task
from trimtab_trainer.world import World


@dataclass
class Anchor:
    """Where the weights started, and how stiff each spring is."""

    settings: Continual
    start: dict[str, Tensor]
    """The weights before the first step; 0 for a new head, which is pulled there."""
    new: frozenset[str] = frozenset()
    """Names of weights that the model did not come with."""
    fisher: dict[str, Tensor] = field(default_factory=dict)
    """EWC: diagonal Fisher information by weight; empty until it is estimated."""

    @property
    def lacks_fisher(self) -> bool:
        """Something has to be estimated before the first step."""
        return self.settings.ewc is not None and not self.fisher

    @property
    def examples(self) -> int:
        """How many examples the Fisher information is estimated from, at most."""
        return self.settings.ewc.examples if self.settings.ewc else 0

    def stiffness(self, name: str) -> Tensor | float:
        """Second derivative of the penalty by a weight."""
        if self.settings.ewc is not None:
            return self.settings.ewc.strength * self.fisher[name]
        springs = self.settings.starting_point
        if springs is None:
            return 0.0
        return springs.new_weights_strength if name in self.new else springs.strength

    @torch.no_grad()
    def pull(self, weights: Mapping[str, nn.Parameter]) -> float:
        """Add the gradient of `sum(stiffness / 2 * (weight - start)^2)` to the weights' own; that sum."""
        penalty = 0.0
        for name, weight in weights.items():
            if weight.grad is None:  # it does not move yet
                continue
            distance = weight.detach() - self.start[name]
            force = self.stiffness(name) * distance
            penalty += 0.5 * float((force * distance).sum())
            weight.grad += force
        return penalty


def make_anchor(settings: Continual, model: TrainableModel, new_parameters: Sequence[str]) -> Anchor:
    """Anchored at the weights as they are now."""
    new = frozenset(name for name in model.trainable if _plain(name) in new_parameters)
    start = model.copy_of_trainable()
    if settings.starting_point is not None:
        start |= {name: torch.zeros_like(start[name]) for name in new}
    return Anchor(settings, start, new)


def _plain(name: str) -> str:
    """The name of a weight in the transformers model, without what peft wraps around it."""
    return name.removeprefix("base_model.model.").replace(".modules_to_save.default", "")


def estimate_fisher(
    model: TrainableModel, task: Task, examples: Sequence[ModelInput], *, world: World, stop: Callable[[], bool]
) -> dict[str, Tensor]:
    """The mean over examples of the squared gradient of each example's mean loss, by weight (the empirical Fisher, diagonal).

    Raises:
        Interruption: some rank was asked to stop.
    """
    squares = {name: torch.zeros_like(weight) for name, weight in model.trainable.items()}
    # Where weights are spread, gradients are sums over all processes: they look at the same example, each at its part of it.
    repeats = world.world_size if model.shards is not None else 1
    model.module.eval()
    for example in examples if model.shards is not None else examples[world.rank :: world.world_size]:
        if model.totals(stop())[0]:
            break
        model.module.zero_grad()
        batch = task.collate([example])
        loss = model.compute(lambda: task.loss(model, batch))  # noqa: B023 - called at once
        (loss / (task.targets(example) * repeats)).backward()
        if model.shards is not None:
            model.shards.take_gradients()
        for name, weight in model.trainable.items():
            if weight.grad is not None:
                # In place: of all weights, two temporary copies an example would cost more than the sum.
                squares[name].addcmul_(weight.grad, weight.grad, value=1 / len(examples))
    model.module.zero_grad()
    model.train()
    if model.shards is None:
        for name, weight in model.trainable.items():
            weight.grad = squares[name]
        sum_gradients(model.trainable.values())  # the same sum over ranks as in training, in the same buffers
        model.module.zero_grad()
    if model.totals(stop())[0]:
        raise Interruption("SIGTERM while estimating the Fisher information")
    return squares
