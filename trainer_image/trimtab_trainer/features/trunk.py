"""The frozen part of a model, and an answer in its place."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers.utils import ModelOutput

from trimtab_trainer.methods.layers import is_in_layer
from trimtab_trainer.model import TrainableModel


class FrozenTrunk:
    """A module whose output is a fixed function of an example: it can be noted, and given instead of computed."""

    def __init__(self, module: nn.Module, *, reads_inputs: bool) -> None:
        """Take the place of the module's `forward`.

        Args:
            module: nothing in it moves.
            reads_inputs: something before it, outside of it, reads the batch's inputs all the same.
        """
        self.reads_inputs = reads_inputs
        self._given: Any = None
        self._is_noting = False
        self._noted: Any = None
        self._template: tuple[Any, list[str]] = (ModelOutput, [])
        original = module.forward

        def forward(*arguments: Any, **named: Any) -> Any:
            if self._given is not None:
                return self._given
            output = original(*arguments, **named)
            if self._is_noting:
                self._noted = output
            return output

        module.forward = forward

    @contextmanager
    def noting(self) -> Iterator[dict[str, Tensor]]:
        """Filled, after the forward pass inside, with the tensors of the output; empty where they have no names."""
        found: dict[str, Tensor] = {}
        self._is_noting, self._noted = True, None
        try:
            yield found
        finally:
            self._is_noting = False
        if isinstance(self._noted, ModelOutput):
            found |= {name: value for name, value in self._noted.items() if isinstance(value, Tensor)}
            self._template = type(self._noted), list(self._noted)

    @contextmanager
    def giving(self, values: Mapping[str, Tensor]) -> Iterator[None]:
        """Inside, the module answers with these tensors; of what the head was found not to read, with empty ones."""
        kind, names = self._template
        nothing = torch.empty(0)  # not None: heads take their part by its place
        self._given = kind(**{name: values.get(name, nothing) for name in names})
        try:
            yield
        finally:
            self._given = None


def frozen_trunk(model: TrainableModel) -> FrozenTrunk | None:
    """The largest part below the head in which nothing moves; None where there is none.

    Where a part of the trunk itself is new (BERT's pooler), that is the stack of layers below it.
    """
    base = model.base
    trunk = getattr(base, base.base_model_prefix, None)
    if not isinstance(trunk, nn.Module):
        return None
    if not _moves(trunk):
        return FrozenTrunk(trunk, reads_inputs=False)
    stacks = [
        child
        for child in trunk.children()
        if not _moves(child) and any(map(is_in_layer, dict(child.named_parameters())))
    ]
    return FrozenTrunk(stacks[0], reads_inputs=True) if len(stacks) == 1 else None


def _moves(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())
