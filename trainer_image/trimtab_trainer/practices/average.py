"""A running average of the weights, which is measured, selected and published in their place."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def decay_at(update: int, decay: float) -> float:
    """The factor of the `update`-th update (the first is 1): the first weights must not weigh on a short run."""
    return min(decay, (1 + update) / (10 + update))


@torch.no_grad()
def update_average(
    average: Mapping[str, Tensor], weights: Mapping[str, nn.Parameter], *, update: int, decay: float
) -> None:
    """`average = decay * average + (1 - decay) * weights`, in place."""
    share = 1 - decay_at(update, decay)
    torch._foreach_lerp_([average[name] for name in weights], [value.detach() for value in weights.values()], share)
