"""LoRA's layers as they are trained: the matrix, the low-rank product beside it and their sum are one step of autograd.

peft composes `W x + s B (A x)` of separate operations: it writes the wide product, its multiple by `s` and the sum one after
the other, and keeps a graph of a dozen nodes a layer. Here the low-rank product is added into the wide one by the multiplication
itself, forward and backward, and `s` goes to the small matrix. Same sums, rounded less often.
"""

from typing import Any

import torch
from peft.tuners.lora import Linear
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from trimtab_trainer.hardware import precision_of_products


class _Product(torch.autograd.Function):
    """`x W' + bias + s (x A') B'`, all products in one precision; W and the bias are frozen."""

    @staticmethod
    def forward(  # noqa: PLR0913, PLR0917 - autograd passes each on its own
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        down: Tensor,
        up: Tensor,
        scaling: float,
        precision: torch.dtype,
    ) -> Tensor:
        """`x` [rows, inputs], `weight` [outputs, inputs], `down` [rank, inputs], `up` [outputs, rank]; returns [rows, outputs]."""
        rows, weight, down, up = (part.to(precision) for part in (x, weight, down, up * scaling))
        narrow = rows @ down.T
        wide = nn.functional.linear(rows, weight, None if bias is None else bias.to(precision))
        wide.addmm_(narrow, up.T)
        ctx.save_for_backward(rows, narrow, weight, down, up)
        ctx.scaling = scaling
        return wide

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Of `x`, `down` and `up`; autograd gives each the precision of its tensor."""
        rows, narrow, weight, down, up = ctx.saved_tensors
        through = gradient @ up
        of_x = (gradient @ weight).addmm_(through, down) if ctx.needs_input_grad[0] else None
        return of_x, None, None, through.T @ rows, (gradient.T @ narrow).float() * ctx.scaling, None, None


class FusedLinear(Linear):
    """peft's layer, computed as above where gradients are asked for and one adapter is at work."""

    def forward(self, x: Tensor, *args: Any, **options: Any) -> Tensor:
        """`x` [..., inputs]; returns [..., outputs]."""
        if args or options or self.disable_adapters or self.merged or not torch.is_grad_enabled():
            return super().forward(x, *args, **options)
        [adapter] = self.active_adapters
        product = _Product.apply(
            x.flatten(0, -2),
            self.base_layer.weight,
            self.base_layer.bias,
            self.lora_A[adapter].weight,
            self.lora_B[adapter].weight,
            self.scaling[adapter],
            precision_of_products(x),
        )
        return product.view(*x.shape[:-1], -1)


def fuse_lora(module: nn.Module) -> None:
    """Every layer of plain LoRA beside a frozen matrix computes as one; peft finds, saves and merges it as before."""
    for part in module.modules():
        if type(part) is Linear and _is_plain(part):
            part.__class__ = FusedLinear


def _is_plain(layer: Linear) -> bool:
    """No DoRA, no dropout, no quantised or trained matrix, no transposed one, and one adapter."""
    base, adapters = layer.base_layer, list(layer.lora_A)
    return (
        type(base) is nn.Linear
        and not any(parameter.requires_grad for parameter in base.parameters())
        and len(adapters) == 1
        and not layer.lora_variant
        and isinstance(layer.lora_dropout[adapters[0]], nn.Identity)
        and layer.lora_B[adapters[0]].bias is None
    )
