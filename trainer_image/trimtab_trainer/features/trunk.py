"""The frozen part of a model, and an answer in its place."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers.utils import ModelOutput

from trimtab_trainer.methods.frozen import frozen_prefix, moves, trunk_of
from trimtab_trainer.methods.layers import is_in_layer
from trimtab_trainer.model import TrainableModel

_STATES = "states"
"""What the one tensor is called that a layer gives."""


class FrozenTrunk:
    """A module whose output is a fixed function of an example: it can be noted, and given instead of computed."""

    def __init__(self, module: nn.Module, *, reads_inputs: bool, before: Sequence[nn.Module] | None = None) -> None:
        """Take the place of the module's `forward`.

        Args:
            module: nothing in it moves.
            reads_inputs: something before it, outside of it, reads the batch's inputs all the same.
            before: for one of several layers, those below it, whose states go on as they came when an answer is given.
        """
        self.reads_inputs = reads_inputs
        self.is_read_whole = before is not None  # by the next layer, every position
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
                raise _NotedError
            return output

        module.forward = forward
        for layer in before or ():
            self._pass_by(layer)

    def _pass_by(self, layer: nn.Module) -> None:
        original = layer.forward

        def forward(*arguments: Any, **named: Any) -> Any:
            if self._given is None:
                return original(*arguments, **named)
            states = arguments[0] if arguments else named["hidden_states"]
            return (states,) if isinstance(self._given, tuple) else states

        layer.forward = forward

    @contextmanager
    def noting(self) -> Iterator[dict[str, Tensor]]:
        """Filled, after the forward pass inside, with the tensors of the output; empty where they have no names.

        The pass inside ends there: what lies above is not computed.
        """
        found: dict[str, Tensor] = {}
        self._is_noting, self._noted = True, None
        try:
            yield found
        except _NotedError:
            pass
        finally:
            self._is_noting = False
        output = self._noted
        if isinstance(output, ModelOutput):
            found |= {name: value for name, value in output.items() if isinstance(value, Tensor)}
            self._template = type(output), list(output)
        elif isinstance(output, Tensor):
            found[_STATES] = output
            self._template = Tensor, [_STATES]
        elif isinstance(output, tuple) and len(output) == 1:
            found[_STATES] = output[0]
            self._template = tuple, [_STATES]

    @contextmanager
    def giving(self, values: Mapping[str, Tensor]) -> Iterator[None]:
        """Inside, the module answers with these tensors; of what the head was found not to read, with empty ones."""
        kind, names = self._template
        nothing = torch.empty(0)  # not None: heads take their part by its place
        if issubclass(kind, ModelOutput):
            self._given = kind(**{name: values.get(name, nothing) for name in names})
        else:
            self._given = values[_STATES] if kind is Tensor else (values[_STATES],)
        try:
            yield
        finally:
            self._given = None


class _NotedError(Exception):
    """Ends a forward pass whose rest nobody needs."""


def frozen_trunk(model: TrainableModel) -> FrozenTrunk | None:
    """The largest part below the head in which nothing moves, else the first layers in which nothing does; None where there are none.

    Where a part of the trunk itself is new (BERT's pooler), the largest part is the stack of layers below it.
    """
    trunk = trunk_of(model.base)
    if trunk is None:
        return None
    if not moves(trunk):
        return FrozenTrunk(trunk, reads_inputs=False)
    stacks = [
        child
        for child in trunk.children()
        if not isinstance(child, nn.ModuleList)
        and not moves(child)
        and any(map(is_in_layer, dict(child.named_parameters())))
    ]
    if stacks:
        return FrozenTrunk(stacks[0], reads_inputs=True) if len(stacks) == 1 else None
    layers = frozen_prefix(model.base).layers
    return FrozenTrunk(layers[-1], reads_inputs=True, before=layers[:-1]) if layers else None
