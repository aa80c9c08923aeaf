"""Method prefixTuning: trained keys and values, or trained embeddings, before the text; by peft."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import (
    PeftConfig,
    PeftModel,
    PrefixTuningConfig,
    PromptTuningConfig,
    get_peft_model,
    set_peft_model_state_dict,
)
from safetensors.torch import load_file

from trimtab_trainer.contract.methods import PrefixTuning
from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.methods.method import Method, invalid
from trimtab_trainer.methods.own_adapters import is_adapted
from trimtab_trainer.model_facts import ModelFacts
from trimtab_trainer.objectives.registry import definition_of


class VirtualTokens(Method):
    """Every weight of the model is frozen; some vectors before the text are trained."""

    is_adapter = True
    format = "peftPrompt"
    tags = ("prefix-tuning",)
    learning_rate = 0.005
    new_head_learning_rate = 0.03

    def check(self, config: RunConfig, facts: ModelFacts) -> None:
        """The positions must suffice, and rows must hold one example each."""
        settings, definition = _settings(config), definition_of(config)
        positions = facts.config.get("max_position_embeddings")
        if isinstance(positions, int) and settings.virtual_tokens + config.data.max_sequence_length > positions:
            raise invalid(
                f"`method.prefixTuning.virtualTokens: {settings.virtual_tokens}` and `data.maxSequenceLength: "
                f"{config.data.max_sequence_length}` are more than the model's {positions} positions together; lower one of them."
            )
        if config.data.packing and definition.packs:
            raise invalid("`method.prefixTuning` stands before each text by itself: set `data.packing: false`.")
        if definition.peft_task_type is None:
            raise invalid(f"`method.prefixTuning` cannot be used for {config.task.kind}; use `method.lora`.")

    def trained_parameters(self, config: RunConfig, facts: ModelFacts) -> int:
        """For each virtual token a key and a value in every layer, or one embedding."""
        settings = _settings(config)
        return settings.virtual_tokens * (
            2 * facts.layers * facts.key_width if settings.kind == "prefix" else facts.width
        )

    def apply(self, config: RunConfig, model: Any, new_parameters: Sequence[str], adapter: Path | None) -> PeftModel:
        """New vectors, or an earlier version's that are trained on; a new head is trained and saved with them.

        Raises:
            TrainerError: ConfigInvalid where prefixes cannot stand before this model.
        """
        settings = _settings(config)
        if adapter is not None:
            return _continue(model, settings, adapter)
        if settings.kind == "prompt" and hasattr(model, "score"):
            # transformers finds a text's last token by its id, and embeddings have none: it would read the padding.
            raise invalid(
                "`method.prefixTuning.kind: prompt` cannot be used for a classifier that reads a text's last token, as this "
                "model's does; use `kind: prefix`."
            )
        torch.manual_seed(config.training.seed)
        kind = PrefixTuningConfig if settings.kind == "prefix" else PromptTuningConfig
        try:
            module = get_peft_model(
                model, kind(num_virtual_tokens=settings.virtual_tokens, task_type=definition_of(config).peft_task_type)
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise invalid(f"`method.prefixTuning` cannot be applied to this model: {error}") from error
        trained = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
        missing = [name for name in new_parameters if not any(name.rpartition(".")[0] in one for one in trained)]
        if missing:
            raise invalid(
                f"`method.prefixTuning` cannot train this model's new head ({missing[0]}); use `method.lora`."
            )
        return module


def _continue(model: Any, settings: PrefixTuning, adapter: Path) -> PeftModel:
    if is_adapted(adapter):
        raise invalid(
            "`method.prefixTuning` cannot train bottlenecks or LoReFT on; go on with the version's own method."
        )
    has = PeftConfig.from_pretrained(adapter)
    wanted = ("PREFIX_TUNING" if settings.kind == "prefix" else "PROMPT_TUNING", settings.virtual_tokens)
    found = (has.peft_type.value, getattr(has, "num_virtual_tokens", 0))
    if found != wanted:
        raise invalid(
            f"`method.prefixTuning` must be that of the version it goes on from, {found[0]} of {found[1]} tokens."
        )
    has.inference_mode, has.base_model_name_or_path = False, model.name_or_path
    module = get_peft_model(model, has)
    # Not `from_pretrained`: peft loads prefixes for inference only.
    set_peft_model_state_dict(module, load_file(adapter / "adapter_model.safetensors"))
    return module


def _settings(config: RunConfig) -> PrefixTuning:
    if config.method.prefix_tuning is None:
        raise TypeError("method.prefixTuning is not set")
    return config.method.prefix_tuning
