"""Cross-entropy of a linear head without ever holding the logits of all positions.

Logits of 4096 positions over 49152 words are 0.8 GB, and autograd keeps them twice. Here a chunk's logits live for a
moment, in which its gradients are computed too (as in Liger's fused linear cross-entropy, Hsu et al., 2024,
arXiv:2410.10989).
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from trimtab_trainer.hardware import precision_of_products

CHUNK_LOGITS = 2**23
"""Logits held at once: 32 MiB in float32."""


def linear_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """Sum of the cross-entropies of `softmax(hidden @ weight.T)`, float32.

    Args:
        hidden: [positions, width], the states that predict.
        weight: [words, width], the head.
        targets: [positions], the word that follows each.
        smoothing: share of the target probability that is spread over all words, as torch's `label_smoothing`.
    """
    return _LinearCrossEntropy.apply(hidden, weight, targets, smoothing)


def linear_log_probabilities(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """[positions] float32: the log-probability of each target. A chunk's logits are computed again in the backward pass."""
    head = _cast(weight, hidden)
    size = _chunk_size(head, targets)
    pieces = [
        checkpoint(_log_probabilities, states, head, words, use_reentrant=False, preserve_rng_state=False)
        for states, words in zip(hidden.split(size), targets.split(size), strict=True)
    ]
    return torch.cat(pieces)


def _log_probabilities(hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    logits = (hidden.to(head.dtype) @ head.T).float()
    return logits.gather(1, targets[:, None])[:, 0] - logits.logsumexp(-1)


@torch.no_grad()
def linear_measure(hidden: Tensor, weight: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of the cross-entropies (float32), and for each target whether it was the likeliest word, [positions]."""
    loss = torch.zeros((), device=hidden.device)
    correct = torch.empty(len(targets), dtype=torch.bool, device=hidden.device)
    for logits, chunk in _chunks(hidden, _cast(weight, hidden), targets):
        loss += torch.nn.functional.cross_entropy(logits, targets[chunk], reduction="sum")
        correct[chunk] = logits.argmax(-1) == targets[chunk]
    return loss, correct


@torch.no_grad()
def linear_losses(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """The cross-entropy of each target by itself, float32, [positions]."""
    losses = torch.empty(len(targets), device=hidden.device)
    for logits, chunk in _chunks(hidden, _cast(weight, hidden), targets):
        losses[chunk] = torch.nn.functional.cross_entropy(logits, targets[chunk], reduction="none")
    return losses


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, smoothing: float) -> Tensor:
        head = _cast(weight, hidden)
        loss = torch.zeros((), device=hidden.device)
        hidden_gradient = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        weight_gradient = torch.zeros_like(weight, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        buffer = torch.empty(_chunk_size(head, targets), len(head), device=hidden.device)
        for logits, chunk in _chunks(hidden, head, targets):
            log_probabilities = torch.log_softmax(logits, -1, out=buffer[: len(logits)])
            chosen = targets[chunk, None]
            likelihood = (1 - smoothing) * log_probabilities.gather(1, chosen)
            if smoothing:
                likelihood += smoothing * log_probabilities.mean(-1, keepdim=True)
            loss -= likelihood.sum()
            # d loss / d logits = softmax - target probabilities
            gradient = log_probabilities.exp_()
            if smoothing:
                gradient -= smoothing / logits.shape[-1]
            gradient.scatter_add_(1, chosen, torch.full_like(chosen, smoothing - 1.0, dtype=gradient.dtype))
            gradient = gradient.to(head.dtype)
            if hidden_gradient is not None:
                hidden_gradient[chunk] = (gradient @ head).to(hidden.dtype)
            if weight_gradient is not None:
                weight_gradient += (gradient.T @ hidden[chunk].to(head.dtype)).float()
        ctx.save_for_backward(hidden_gradient, weight_gradient)
        ctx.weight_dtype = weight.dtype
        return loss

    @staticmethod
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        hidden_gradient, weight_gradient = ctx.saved_tensors
        return (
            None if hidden_gradient is None else hidden_gradient * scale.to(hidden_gradient.dtype),
            None if weight_gradient is None else (weight_gradient * scale).to(ctx.weight_dtype),
            None,
            None,
        )


def _chunks(hidden: Tensor, head: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, slice]]:
    """Float32 logits of a few positions at a time, written over those before: fresh memory costs more than what is computed there."""
    size = _chunk_size(head, targets)
    products = torch.empty(size, len(head), dtype=head.dtype, device=head.device)
    exact = products if head.dtype == torch.float32 else torch.empty_like(products, dtype=torch.float32)
    for start in range(0, len(targets), size):
        chunk = slice(start, start + size)
        states = hidden[chunk].to(head.dtype)
        logits = torch.mm(states, head.T, out=products[: len(states)])
        yield (logits if exact is products else exact[: len(states)].copy_(logits)), chunk


def _chunk_size(head: Tensor, targets: Tensor) -> int:
    return max(1, min(CHUNK_LOGITS // len(head), len(targets)))


def _cast(weight: Tensor, hidden: Tensor) -> Tensor:
    """The head in the precision of the products."""
    return weight.to(precision_of_products(hidden))
