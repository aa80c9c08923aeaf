"""LoReFT (Wu et al., 2024, arXiv:2404.03592): h + R^T(W h + b - R h) after a layer, with orthonormal rows of R."""

from typing import Any

import torch
from torch import Tensor, nn

from trimtab_trainer.contract.methods import Reft
from trimtab_trainer.methods.layers import is_stack
from trimtab_trainer.methods.method import invalid
from trimtab_trainer.model_facts import ModelFacts

MODULE = "trimtab_intervention"


class Intervention(nn.Module):
    """One edit of a layer's output.

    R is the orthonormal factor of a free matrix `rotation`, so that any step of an optimizer keeps it orthonormal. torch's
    `parametrizations.orthogonal` collapses to 0 under weight decay after one step; here a shorter matrix has the same factor.
    """

    def __init__(self, width: int, r: int, *, dropout: float) -> None:
        super().__init__()
        self.rotation = nn.Parameter(torch.linalg.qr(torch.randn(width, r)).Q)
        self.source = nn.Linear(width, r)
        with torch.no_grad():  # W = R and b = 0: the model begins as the base model
            self.source.weight.copy_(self.orthonormal().T)
            self.source.bias.zero_()
        self.dropout = nn.Dropout(dropout)

    def orthonormal(self) -> Tensor:
        """[width, r]: R transposed. With a positive diagonal the factorisation is unique, so that it does not jump."""
        factor, triangle = torch.linalg.qr(self.rotation.float())
        return factor * torch.where(triangle.diagonal() < 0, -1.0, 1.0)

    def forward(self, states: Tensor) -> Tensor:
        """[..., width] to the same."""
        with torch.autocast(states.device.type, enabled=False):
            rotation, wide = self.orthonormal(), states.float()
            edit = self.dropout(self.source(wide) - wide @ rotation) @ rotation.T
        return states + edit.to(states.dtype)


def add_interventions(model: Any, settings: Reft) -> None:
    """After the chosen layers.

    Raises:
        TrainerError: ConfigInvalid where there are no such layers.
    """
    name, layers = _layers(model)
    width = _width(model, name)
    if not layers or width is None:
        raise invalid("`method.reft` needs a model of transformer layers, which this one is not; use `method.full`.")
    chosen = settings.layers or range(len(layers))
    if max(chosen) >= len(layers):
        raise invalid(f"`method.reft.layers` must be below {len(layers)}, the layers of this model; got {max(chosen)}.")
    if settings.r > width:
        raise invalid(f"`method.reft.r: {settings.r}` must not be more than the model's width, {width}.")
    for number in chosen:
        layers[number].add_module(MODULE, Intervention(width, settings.r, dropout=settings.dropout))
        layers[number].register_forward_hook(_apply)


def count_parameters(settings: Reft, facts: ModelFacts) -> int:
    """2 x width x r + r for each layer."""
    return len(settings.layers or range(facts.layers)) * (2 * facts.width * settings.r + settings.r)


def _layers(model: Any) -> tuple[str, nn.ModuleList]:
    """The transformer's layers and their name: of several stacks the longest."""
    lists = [(name, part) for name, part in model.named_modules() if isinstance(part, nn.ModuleList) and is_stack(name)]
    return max(lists, key=lambda one: len(one[1]), default=("", nn.ModuleList()))


def _width(model: Any, name: str) -> int | None:
    """What the layers write: towers of one model may differ, so the nearest configuration around them says it."""
    around = [model.get_submodule(name.rsplit(".", up)[0]) for up in range(1, name.count(".") + 1)]
    configs = (getattr(module, "config", None) for module in (*around, model))
    for config in (one.get_text_config() for one in configs if one is not None):
        if hasattr(config, "depths"):  # stages of different widths
            return None
        if hasattr(config, "hidden_size"):
            return int(config.hidden_size)
    return None


def _apply(layer: nn.Module, _inputs: Any, output: Any) -> Any:
    intervention: Intervention = getattr(layer, MODULE)
    if isinstance(output, tuple):
        return intervention(output[0]), *output[1:]
    return intervention(output)
