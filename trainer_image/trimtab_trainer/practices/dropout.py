"""Dropout override: one probability in place of all that a model came with."""

from typing import Any

from torch import nn

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.errors import TrainerError

ATTRIBUTES = ("attention_dropout", "dropout", "activation_dropout", "hidden_dropout", "dropout_p", "dropout_prob")
"""Numbers by which modules of transformers drop without a Dropout layer, in their attention functions above all."""


def override_dropout(model: Any, probability: float) -> None:
    """Set every dropout of a transformers model, before a method adds layers of its own.

    Raises:
        TrainerError: ConfigInvalid where the architecture has none, so that nothing would follow from the field.
    """
    places = 0
    for module in model.modules():
        if isinstance(module, nn.Dropout | nn.Dropout1d | nn.Dropout2d):
            module.p = probability
            places += 1
            continue
        for name in ATTRIBUTES:
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, probability)
                places += 1
    if not places:
        raise TrainerError(
            TrainerReason.CONFIG_INVALID,
            f"`training.dropout: {probability:g}` has nothing to act on: {type(model).__name__} has no dropout. Leave it out, "
            "or use `method.lora.dropout`.",
        )
