"""Trained prefixes and prompts: what they come to is keys and values before the text, computed once.

So rows with different prefixes, with adapters and with neither share a batch, as peft's own models cannot.
"""

from pathlib import Path

import torch
from peft import PeftConfig, PeftModel, PrefixTuningConfig, PromptTuningConfig

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.server.adapters import NO_ADAPTER, WEIGHTS_FILE
from trimtab_trainer.server.models import GenerationModel
from trimtab_trainer.server.rows import Prefix


@torch.inference_mode()
def load_prefix(model: GenerationModel, directory: Path) -> Prefix:
    """Keys and values of every layer. Only the engine's thread may call it.

    Args:
        model: the base model; it stays as it is.
        directory: verified files in peft's format.

    Raises:
        TrainerError: ModelInvalid, naming what does not fit.
    """
    if not (directory / WEIGHTS_FILE).is_file():
        raise _invalid(f"The adapter must contain {WEIGHTS_FILE}.")
    try:
        config = PeftConfig.from_pretrained(str(directory))
        if not isinstance(config, PrefixTuningConfig | PromptTuningConfig):
            raise _invalid(f"The adapter must be prefix or prompt tuning; this is {config.peft_type.value}.")
        model.adapters.choose_for_rows([NO_ADAPTER])
        tuned = PeftModel.from_pretrained(model.module, directory).eval()
        prompt = tuned.get_prompt(batch_size=1)
        if isinstance(config, PromptTuningConfig):
            prompt = model.module(inputs_embeds=prompt.to(model.module.dtype), use_cache=True).past_key_values
        layers = tuple((layer.keys[0].clone(), layer.values[0].clone()) for layer in prompt.layers)
    except (ValueError, RuntimeError, KeyError, TypeError, AttributeError, OSError) as error:
        raise _invalid(f"The adapter does not fit the base model: {error}") from error
    return Prefix(layers, int(config.num_virtual_tokens))


def _invalid(message: str) -> TrainerError:
    return TrainerError(TrainerReason.MODEL_INVALID, message)
