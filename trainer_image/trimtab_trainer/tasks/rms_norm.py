"""The norm of Llama and its relatives as it is trained on CPUs: one step of autograd, half a dozen passes over the rows fewer.

transformers composes root mean square normalisation (Zhang and Sennrich, 2019, arXiv:1910.07467) of separate operations, and
autograd keeps the rows in float32 for them. Here the rows are kept as they came, and what follows from them is computed again.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers.models.llama.modeling_llama import LlamaRMSNorm


class _Normalized(torch.autograd.Function):
    """`weight x / sqrt(mean(x x) + epsilon)`, in float32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        """`x` [..., width], `weight` [width]; returns [..., width], in the wider of their precisions."""
        rows = x.float()
        scale = rows.square().mean(-1, keepdim=True).add_(epsilon).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        return (rows * scale).mul_(weight).to(torch.promote_types(x.dtype, weight.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Of `x` and `weight`; autograd gives each the precision of its tensor."""
        x, weight, scale = ctx.saved_tensors
        rows = x.float()
        of_weight = (gradient * rows * scale).flatten(0, -2).sum(0) if ctx.needs_input_grad[1] else None
        of_rows = gradient.float() * weight
        along = torch.linalg.vecdot(of_rows, rows).unsqueeze(-1) * scale.pow(3) / -x.shape[-1]
        return of_rows.mul_(scale).addcmul_(rows, along), of_weight, None


class FusedRMSNorm(LlamaRMSNorm):
    """Llama's norm, computed as above where gradients are asked for."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        """[..., width], and so is what comes out."""
        if not torch.is_grad_enabled():
            return super().forward(hidden_states)
        return _Normalized.apply(hidden_states, self.weight, self.variance_epsilon)


def fuse_norms(module: nn.Module, device: torch.device) -> None:
    """Every norm on a CPU that computes what Llama's does. GPUs have Liger's kernels."""
    if device.type == "cpu":
        for part in module.modules():
            if _computes_as_llama(type(part)):
                part.__class__ = FusedRMSNorm


def _computes_as_llama(norm: type[nn.Module]) -> bool:
    """Transformers copies this class into most families under their names: its code says whether a norm is one of them."""
    code, llamas = getattr(norm.forward, "__code__", None), LlamaRMSNorm.forward.__code__
    parts = ("co_code", "co_names", "co_consts")
    return code is not None and all(getattr(code, part) == getattr(llamas, part) for part in parts)
