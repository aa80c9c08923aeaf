"""Folding a LoRA adapter into its base model, and the proof that it still is the same function."""

from collections.abc import Callable

import torch
from torch import Tensor

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.model import TrainableModel

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2}
"""Largest difference of two outputs, relative to the largest output: rounding stays below."""


@torch.no_grad()
def merge_adapter(model: TrainableModel, outputs: Callable[[], Tensor]) -> None:
    """Make one whole model of base model and adapter.

    Args:
        model: with a LoRA adapter; afterwards a plain transformers model.
        outputs: of the model for some fixed example; computed before and after.

    Raises:
        TrainerError: TrainerError where the outputs differ by more than rounding; nothing may be published then.
    """
    model.module.eval()
    before = outputs().float()
    model.module = model.module.merge_and_unload()
    after = outputs().float()
    difference = float((after - before).abs().max() / before.abs().max().clamp(min=1e-6))
    if not difference <= TOLERANCE[model.precision]:
        raise TrainerError(
            TrainerReason.TRAINER_ERROR,
            f"The merged model is not the model that was measured (relative difference of its outputs {difference:.2g}); nothing "
            "is published. Leave `output.merge` out, or use `training.precision: float32`.",
        )
