"""Attention: over several documents in one row, each seeing only itself; and in the precision that is fast on CPUs.

`transformers` (5.23) finds packed documents by their position ids, but only without attention mask and without cache;
otherwise documents silently attend across their borders. On CPUs its dense block mask also computes what it masks.
Here each document is attended to by itself: exact by construction, and the fastest way measured on CPUs.

Under bfloat16 on CPUs the backward pass of PyTorch's fused attention (2.6) takes 2 to 7 times as long as in float32, and was 40 %
of a LoRA step; the forward pass takes a third, but ten times as long for documents of less than 64 tokens and seven times as long on
processors without units for bfloat16. Within documents each pass is therefore computed in the precision that is fast for it, and
other attention whose gradients are asked for in float32 altogether.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface
from transformers.utils import is_flash_attn_2_available

from trimtab_trainer.hardware import has_bfloat16_units, precision_of_products

# What `scaled_dot_product_attention` calls on a CPU: only these give and take the sums of exponentials.
_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu  # noqa: SLF001
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward  # noqa: SLF001

FEWEST_IN_BFLOAT16 = 64
"""Tokens from which PyTorch's fused forward pass uses units for bfloat16; without them it is slower than float32, and less exact:
from such sums of exponentials, gradients of large scores would be worse than those of bfloat16 altogether."""
PACKED = "trimtab_packed"
UNSUPPORTED = ("softcap", "s_aux", "position_bias")
"""Arguments of some architectures that this function does not honour; the forward check then chooses padding."""


def backward_in_float32(
    attend: Callable[..., Tensor], query: Tensor, key: Tensor, value: Tensor, **options: Any
) -> Tensor:
    """`attend(query, key, value, **options)`, in float32 where bfloat16 would have a slow backward pass."""
    if not _has_slow_backward(query, key, value):
        return attend(query, key, value, **options)
    with torch.autocast("cpu", enabled=False):
        # What is added to the scores must have their precision.
        exact = {
            name: option.float() if isinstance(option, Tensor) and option.is_floating_point() else option
            for name, option in options.items()
        }
        return attend(query.float(), key.float(), value.float(), **exact).to(torch.bfloat16)


def _has_slow_backward(query: Tensor, key: Tensor, value: Tensor) -> bool:
    asked = torch.is_grad_enabled() and any(part.requires_grad for part in (query, key, value))
    return asked and _is_bfloat16_on_a_cpu(query)


def _is_bfloat16_on_a_cpu(query: Tensor) -> bool:
    return query.device.type == "cpu" and precision_of_products(query) == torch.bfloat16


class _EachPassItsPrecision(torch.autograd.Function):
    """Causal attention on CPUs: forward in bfloat16 where that is fast, backward in float32 from the same sums of exponentials."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
        """All [1, heads, tokens, width], also what is returned."""
        uses_units = query.shape[2] >= FEWEST_IN_BFLOAT16 and has_bfloat16_units()
        fast = torch.bfloat16 if uses_units else torch.float32
        attended, sums = _forward(*(part.to(fast) for part in (query, key, value)), is_causal=True, scale=scale)
        attended = attended.bfloat16()
        ctx.save_for_backward(query, key, value, attended, sums)
        ctx.scale = scale
        return attended

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Of query, key and value; autograd gives each the precision of its tensor."""
        query, key, value, attended, sums = ctx.saved_tensors
        parts = (part.float() for part in (gradient, query, key, value, attended))
        of = _backward(*parts, sums, dropout_p=0.0, is_causal=True, scale=ctx.scale)
        return *of, None


def sdpa_attention(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """`sdpa` of transformers, by `backward_in_float32`."""

    def attend(query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
        attended, _ = sdpa_attention_forward(module, query, key, value, **options)
        return attended

    return backward_in_float32(attend, query, key, value, attention_mask=attention_mask, **options), None


def packed_attention(  # noqa: PLR0913, PLR0917 - the interface of transformers
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    document_lengths: tuple[int, ...] = (),
    **others: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each document.

    `query` is [1, heads, tokens, width]; `key` and `value` may have fewer heads (grouped queries). `document_lengths`
    are the tokens of each document, in order.

    Returns:
        [1, tokens, heads, width], and no attention weights.
    """
    if attention_mask is not None or any(others.get(name) is not None for name in UNSUPPORTED):
        raise NotImplementedError("attention that is not plain causal")
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    dropout = dropout if module.training else 0.0
    pieces = [
        _one_document(one_query, one_key, one_value, window=sliding_window, dropout=dropout, scale=scaling)
        for one_query, one_key, one_value in zip(
            query.split(document_lengths, dim=2),
            key.split(document_lengths, dim=2),
            value.split(document_lengths, dim=2),
            strict=True,
        )
    ]
    return torch.cat(pieces, dim=2).transpose(1, 2), None


def _one_document(
    query: Tensor, key: Tensor, value: Tensor, *, window: int | None, dropout: float, scale: float | None
) -> Tensor:
    mask = _window_mask(query, window)
    causal = mask is None
    if causal and not dropout and query.shape[-1] == value.shape[-1] and _is_bfloat16_on_a_cpu(query):
        return _EachPassItsPrecision.apply(*(part.bfloat16() for part in (query, key, value)), scale)
    return backward_in_float32(
        scaled_dot_product_attention,
        query,
        key,
        value,
        attn_mask=mask,
        is_causal=causal,
        dropout_p=dropout,
        scale=scale,
    )


def _window_mask(query: Tensor, window: int | None) -> Tensor | None:
    """True where a token may look: back by less than the window. None where all of the past is within it."""
    if window is None or query.shape[2] <= window:
        return None
    place = torch.arange(query.shape[2], device=query.device)
    distance = place[:, None] - place[None, :]
    return (distance >= 0) & (distance < window)


def _no_mask(*_: Any, **__: Any) -> None:
    """`packed_attention` needs no mask."""


AttentionInterface.register("sdpa", sdpa_attention)
AttentionInterface.register(PACKED, packed_attention)
AttentionMaskInterface.register(PACKED, _no_mask)


def packed_implementation(device: torch.device) -> str:
    """The attention for packed rows: varlen kernels where a GPU has them, else one document after the other."""
    if device.type == "cuda":
        return "flash_attention_2" if is_flash_attn_2_available() else "sdpa"
    return PACKED


def packed_arguments(lengths: tuple[int, ...], implementation: str, device: torch.device) -> dict[str, Any]:
    """What an implementation needs to know about the documents besides their position ids."""
    if implementation == PACKED:
        return {"document_lengths": lengths}
    if implementation.startswith("flash_attention"):
        borders = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device)
        longest = max(lengths)
        return {"cu_seq_lens_q": borders, "cu_seq_lens_k": borders, "max_length_q": longest, "max_length_k": longest}
    return {}  # sdpa: transformers makes a block mask from the position ids


@contextmanager
def attention_implementation(model: Any, name: str) -> Iterator[None]:
    """Use another attention for a while."""
    before = model.config._attn_implementation  # noqa: SLF001 - transformers has a setter only
    model.set_attn_implementation(name)
    try:
        yield
    finally:
        model.set_attn_implementation(before)
