"""Activations are computed again in the backward pass instead of kept (gradient checkpointing, Chen et al., 2016, arXiv:1604.06174)."""

from transformers import PreTrainedModel

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.model import TrainableModel


def recompute_activations(model: TrainableModel) -> None:
    """Of every layer only what goes in is kept. Dropout draws the same again, so that nothing else changes.

    Raises:
        TrainerError: ConfigInvalid where the architecture cannot, as those without layers of one kind.
    """
    able = [part for part in model.base.modules() if isinstance(part, PreTrainedModel)]
    if not able or not able[0].supports_gradient_checkpointing:
        raise TrainerError(
            TrainerReason.CONFIG_INVALID,
            f"`training.recomputeActivations` needs an architecture whose layers can be computed again, which "
            f"{type(able[0] if able else model.base).__name__} is not in transformers. Leave it out.",
        )
    # Without re-entrance gradients reach trained weights below frozen inputs, as adapters have them.
    able[0].activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
