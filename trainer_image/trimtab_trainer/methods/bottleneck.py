"""Bottleneck adapters: z + up(activation(down(z))) on the output z of a sublayer, before it is added to the residual stream."""

import math
import re
from typing import Any

import torch
from torch import Tensor, nn

from trimtab_trainer.contract.methods import Adapter
from trimtab_trainer.methods.method import invalid
from trimtab_trainer.model_facts import ModelFacts

MODULE = "trimtab_bottleneck"
DEFAULT_REDUCTION = 16
_ACTIVATIONS: dict[str, Any] = {"relu": nn.functional.relu, "gelu": nn.functional.gelu, "silu": nn.functional.silu}
_ATTENTION_OUTPUTS = re.compile(
    r".*\.\d+\.(.*\.)?((self_)?attn\.(o_proj|out_proj|c_proj|proj)|attention\.(output\.dense|o_proj|out_lin|out_proj|dense|wo))"
)
_FEED_FORWARD_OUTPUTS = re.compile(
    r".*\.\d+\.(.*\.)?(mlp\.(down_proj|c_proj|fc2|dense_4h_to_h)|(?<!attention\.)output\.dense|feed_forward\.(output_dense|w2)|ffn\.lin2|fc2)"
)
"""The linear layers that write into the residual stream, in the architectures of transformers."""


class Bottleneck(nn.Module):
    """Squeeze, bend, widen, add. It begins as the identity."""

    def __init__(self, width: int, size: int, *, activation: str, dropout: float) -> None:
        super().__init__()
        self.down = nn.Linear(width, size)
        self.up = nn.Linear(size, width)
        self.dropout = nn.Dropout(dropout)
        self._activation = _ACTIVATIONS[activation]
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, states: Tensor) -> Tensor:
        """[..., width] to the same."""
        return states + self.up(self.dropout(self._activation(self.down(states)))).to(states.dtype)


def bottleneck_size(settings: Adapter, width: int) -> int:
    """Width of the bottleneck."""
    return settings.bottleneck_size or max(1, width // (settings.reduction_factor or DEFAULT_REDUCTION))


def is_place(name: str, settings: Adapter) -> bool:
    """Whether a bottleneck is put after the linear layer of this name."""
    if _FEED_FORWARD_OUTPUTS.fullmatch(name):
        return True
    return settings.placement == "houlsby" and _ATTENTION_OUTPUTS.fullmatch(name) is not None


def add_bottlenecks(model: Any, settings: Adapter) -> None:
    """Put a bottleneck after each chosen linear layer.

    Raises:
        TrainerError: ConfigInvalid where the architecture names its layers in another way.
    """
    places = [(name, module) for name, module in model.named_modules() if is_place("." + name, settings)]
    if not places:
        names = sorted(
            {name.rpartition(".")[2] for name, module in model.named_modules() if isinstance(module, nn.Linear)}
        )
        raise invalid(
            f"`method.adapter` does not know where this architecture's layers end (it has {', '.join(names[:20])}); use "
            "`method.lora` or `method.full`."
        )
    for _, module in places:
        width = _output_width(module)
        size = bottleneck_size(settings, width)
        bottleneck = Bottleneck(width, size, activation=settings.activation, dropout=settings.dropout)
        module.add_module(MODULE, bottleneck)
        module.register_forward_hook(_apply)


def count_parameters(settings: Adapter, facts: ModelFacts) -> int:
    """2 x width x size + size + width for each place."""
    count = 0
    for name, shape in facts.shapes.items():
        layer, _, last = name.rpartition(".")
        if last == "weight" and len(shape) > 1 and is_place("." + layer, settings):
            width = facts.width
            size = bottleneck_size(settings, width)
            count += 2 * width * size + size + width
    return count


def _apply(module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
    bottleneck: Bottleneck = getattr(module, MODULE)
    return bottleneck(output)


def _output_width(module: Any) -> int:
    weight: torch.Tensor = module.weight
    # transformers' Conv1D (GPT-2) keeps its matrix the other way round and says its width.
    return int(getattr(module, "nf", None) or getattr(module, "out_features", None) or math.prod(weight.shape[:1]))
