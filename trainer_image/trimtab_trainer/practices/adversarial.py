"""Adversarial training on the input embeddings: FGM (arXiv:1605.07725), PGD (arXiv:1706.06083), FreeLB (arXiv:1909.11764).

A perturbation is bounded for each example by itself, in packed rows too. The passes of one micro batch see the same
dropout, as the gradient of an attack is only good for the network that it was computed on (FreeLB, section 3.3).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from trimtab_trainer.contract.practices import Adversarial, FastGradient, ProjectedGradient
from trimtab_trainer.practices.embeddings import Embeddings

PREFIX = "adversarial_"
"""Of metrics that are measured under attack."""


@dataclass(frozen=True)
class Attack:
    """Training and measuring under attack."""

    settings: Adversarial
    embeddings: Embeddings

    @property
    def _epsilon(self) -> float:
        chosen = self.settings.fgm or self.settings.pgd or self.settings.free_lb or FastGradient()
        return chosen.epsilon * self.embeddings.scale

    def backward(self, loss: Callable[[], Tensor], *, targets: float) -> Tensor:
        """Add the gradients of one micro batch's `loss() / targets`, clean and perturbed; the first pass's loss."""
        several = self.settings.free_lb
        if several is not None:
            return self._train_on_every_step(loss, several, targets)
        clean, direction = self._watched(loss, targets=2 * targets)
        self.embeddings.offset = self._ascended(direction, loss)
        try:
            (loss() / (2 * targets)).backward()
        finally:
            self.embeddings.offset = None
        return clean

    def perturb(self, loss: Callable[[], Tensor]) -> None:
        """Set the FGM attack for the next forward passes; parameters get no gradients. `relax` takes it away."""
        with torch.enable_grad():
            self.embeddings.start = "zero"
            value = loss()
            offset = self._offset()
            (direction,) = torch.autograd.grad(value, offset)
        self.embeddings.offset = self._step(direction)

    def relax(self) -> None:
        """No attack any more."""
        self.embeddings.offset = None

    def _ascended(self, direction: Tensor, loss: Callable[[], Tensor]) -> Tensor:
        """The whole attack from its first direction on."""
        settings = self.settings.pgd
        if settings is None:
            return self._step(direction)
        offset = self._step(direction, settings.step_size)
        for _ in range(settings.steps - 1):
            self.embeddings.offset = offset.requires_grad_()
            (direction,) = torch.autograd.grad(loss(), offset)
            offset = self._projected(offset.detach() + self._step(direction, settings.step_size))
        return offset

    def _train_on_every_step(self, loss: Callable[[], Tensor], settings: ProjectedGradient, targets: float) -> Tensor:
        """FreeLB: the gradient that moves the perturbation trains the weights, too."""
        first: Tensor | None = None
        try:
            for _ in range(settings.steps):
                begin = "uniform" if first is None else ""
                value, direction = self._watched(loss, targets=settings.steps * targets, start=begin)
                first = value if first is None else first
                moved = self._offset().detach() + self._step(direction, settings.step_size)
                self.embeddings.offset = self._projected(moved).requires_grad_()
        finally:
            self.embeddings.offset = None
        return first if first is not None else torch.zeros(())

    def _watched(self, loss: Callable[[], Tensor], *, targets: float, start: str = "zero") -> tuple[Tensor, Tensor]:
        """One forward and backward pass; its loss, and the gradient at the perturbation."""
        self.embeddings.start = start
        value = loss()
        (value / targets).backward()
        offset = self._offset()
        return value.detach(), torch.zeros_like(offset) if offset.grad is None else offset.grad

    def _offset(self) -> Tensor:
        if self.embeddings.offset is None:
            raise RuntimeError("the forward pass did not look up embeddings")
        return self.embeddings.offset

    def _step(self, direction: Tensor, share: float = 1.0) -> Tensor:
        """`share` of the ball's radius along the gradient."""
        return share * self._epsilon * direction / self.embeddings.norms(direction)

    def _projected(self, offset: Tensor) -> Tensor:
        """Back into the ball."""
        return offset * (self._epsilon / self.embeddings.norms(offset)).clamp_max(1.0)
