"""What methods share that train weights of the model itself: adapters folded in, heads found and set apart."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peft import PeftModel
from torch import nn

from trimtab_trainer.methods.method import invalid
from trimtab_trainer.methods.own_adapters import is_adapted


def with_adapter_folded_in(model: Any, adapter: Path | None) -> Any:
    """The model, with an earlier version's adapter as part of its weights.

    Raises:
        TrainerError: ConfigInvalid where such an adapter cannot be part of weights.
    """
    if adapter is None:
        return model
    if is_adapted(adapter):
        raise invalid("Bottlenecks and LoReFT cannot be folded into the weights; go on with the version's own method.")
    loaded = PeftModel.from_pretrained(model, adapter)
    settings = loaded.peft_config["default"]
    if settings.is_prompt_learning:
        raise invalid(
            f"A {settings.peft_type.value} adapter cannot be folded into the weights; go on with its own method."
        )
    return loaded.merge_and_unload()


def head_parameters(model: Any, new_parameters: Sequence[str]) -> list[nn.Parameter]:
    """The task's head: everything outside the trunk, and what the model's files did not have."""
    output = model.get_output_embeddings()
    if output is not None:
        _untie(model, output)
        return list(output.parameters())
    trunk = model.base_model_prefix + "."
    return [value for name, value in model.named_parameters() if not name.startswith(trunk) or name in new_parameters]


def _untie(model: Any, head: Any) -> None:
    """A head that shares its weights with the input embeddings gets its own, so that the trunk stays as it is."""
    if head.weight is model.get_input_embeddings().weight:
        head.weight = nn.Parameter(head.weight.detach().clone())
        model.config.tie_word_embeddings = False
        model.config.get_text_config().tie_word_embeddings = False
        model.all_tied_weights_keys = {}  # what save_pretrained would otherwise leave out
