"""What of a model does not move while the rest trains: a whole trunk, or its first layers and what lies below them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from torch import nn

from trimtab_trainer.methods.layers import is_below, is_stack


@dataclass(frozen=True)
class FrozenPrefix:
    """The beginning of a model with one stack of layers, as far as nothing moves. Empty where something moves at once."""

    layers: Sequence[nn.Module] = ()
    below: Sequence[nn.Module] = ()
    """What runs before the layers: embeddings, and the dropout after them."""


def frozen_prefix(base: nn.Module) -> FrozenPrefix:
    """The first layers in which nothing moves, where nothing below them does either."""
    stacks = [
        (name, module) for name, module in base.named_modules() if isinstance(module, nn.ModuleList) and is_stack(name)
    ]
    if len(stacks) != 1:
        return FrozenPrefix()
    [(name, stack)] = stacks
    if any(is_below(own) and parameter.requires_grad for own, parameter in base.named_parameters()):
        return FrozenPrefix()
    layers = list(takewhile(lambda layer: not moves(layer), stack))
    beside = base.get_submodule(name.rpartition(".")[0]).children()
    embeddings = (module for own, module in base.named_modules() if is_below(own) and not moves(module))
    return FrozenPrefix(layers, [*embeddings, *(one for one in beside if not list(one.parameters()))])


def frozen_parts(trunk: nn.Module | None) -> list[nn.Module]:
    """All parts of a trunk in which nothing moves."""
    return [part for part in trunk.modules() if not moves(part)] if trunk is not None else []


def trunk_of(base: Any) -> nn.Module | None:
    """What lies below the head; None in a model that has no such part."""
    trunk = getattr(base, base.base_model_prefix, None)
    return trunk if isinstance(trunk, nn.Module) else None


def moves(module: nn.Module) -> bool:
    """Whether any weight in it does."""
    return any(parameter.requires_grad for parameter in module.parameters())
