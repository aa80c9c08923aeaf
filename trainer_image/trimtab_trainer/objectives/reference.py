"""The reference policy: the model as it was before the first step."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from trimtab_trainer.model import TrainableModel


@dataclass(frozen=True)
class Reference:
    """The trained weights as the job found them; what is frozen is the same anyway.

    It is taken before an earlier attempt's state is put into the model, so a resumed run has the same reference. With a new
    adapter that is the base model, as switching the adapter off would give; with an earlier version's adapter, that version.
    """

    weights: Mapping[str, Tensor]

    @classmethod
    def of(cls, model: TrainableModel) -> "Reference":
        """A copy of the weights that will move."""
        return cls(model.copy_of_trainable())

    @contextmanager
    def in_place(self, model: TrainableModel) -> Iterator[None]:
        """The model is the reference for a while, without dropout and gradients. Not between a forward pass and its backward pass."""
        current, was_training = model.copy_of_trainable(), model.module.training
        model.load_trainable(self.weights)
        model.module.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            model.load_trainable(current)
            model.module.train(was_training)
