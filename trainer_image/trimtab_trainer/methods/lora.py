"""Method lora: low-rank adapters by peft (Hu et al., 2021, arXiv:2106.09685), with rsLoRA, DoRA, rank and alpha patterns."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from torch import nn

from trimtab_trainer.contract.methods import Lora
from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.methods.method import Method, invalid
from trimtab_trainer.methods.own_adapters import is_adapted
from trimtab_trainer.methods.targets import ALL_LINEAR, check_targets, is_chosen, pattern_value
from trimtab_trainer.model_facts import ModelFacts
from trimtab_trainer.objectives.registry import definition_of


class LowRankAdapters(Method):
    """Frozen weights, and beside each chosen matrix a product of two small ones."""

    is_adapter = True
    format = "peftAdapter"
    tags: Sequence[str] = ("lora",)
    field = "method.lora"
    learning_rate = 0.0002
    new_head_learning_rate = 0.002

    def check(self, config: RunConfig, facts: ModelFacts) -> None:
        """Every name in targetModules must match a layer."""
        check_targets(self.settings(config), facts, field=self.field)

    def trained_parameters(self, config: RunConfig, facts: ModelFacts) -> int:
        """R x (inputs + outputs) of each chosen layer; with DoRA the lengths of its outputs too."""
        lora, count = self.settings(config), 0
        for name, shape in facts.linear_layers.items():
            if is_chosen(name, lora, facts):
                count += pattern_value(name, lora.rank_pattern, lora.r) * sum(shape) + lora.use_dora * shape[0]
        return count

    def apply(self, config: RunConfig, model: Any, new_parameters: Sequence[str], adapter: Path | None) -> PeftModel:
        """A new adapter, or an earlier version's one that is trained on; a new head is trained and saved with it."""
        if adapter is not None:
            return continue_lora(model, self.settings(config), adapter, field=self.field)
        return self._add(config, model, new_parameters)

    def settings(self, config: RunConfig) -> Lora:
        """What the user wrote."""
        if config.method.lora is None:
            raise TypeError("method.lora is not set")
        return config.method.lora

    def _add(self, config: RunConfig, model: Any, new_parameters: Sequence[str]) -> PeftModel:
        torch.manual_seed(config.training.seed)
        settings = LoraConfig(
            **peft_settings(self.settings(config)),
            modules_to_save=sorted({name.rpartition(".")[0] for name in new_parameters}) or None,
            task_type=definition_of(config).peft_task_type,
        )
        try:
            return get_peft_model(model, settings)
        except ValueError as error:
            raise invalid(f"`{self.field}` cannot be applied to this model: {error}") from error


def peft_settings(lora: Lora) -> dict[str, Any]:
    """Our words as peft's."""
    targets = list(lora.target_modules)
    return {
        "r": lora.r,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "target_modules": lora.target_pattern or (ALL_LINEAR if targets == [ALL_LINEAR] else targets),
        "use_rslora": lora.use_rslora,
        "use_dora": lora.use_dora,
        "rank_pattern": dict(lora.rank_pattern),
        "alpha_pattern": dict(lora.alpha_pattern),
        "init_lora_weights": True if lora.initialization == "default" else lora.initialization,
    }


def continue_lora(model: Any, lora: Lora, adapter: Path, *, field: str) -> PeftModel:
    """Train an earlier version's adapter on, so that it still is one adapter on the same base model.

    Raises:
        TrainerError: ConfigInvalid where the job asks for another shape than the adapter has.
    """
    if is_adapted(adapter):
        raise invalid(f"`{field}` cannot train bottlenecks or LoReFT on; go on with the version's own method.")
    found = PeftConfig.from_pretrained(adapter)
    if not isinstance(found, LoraConfig):
        raise invalid(f"`{field}` cannot train a {found.peft_type.value} adapter on; start from the base model.")
    module = PeftModel.from_pretrained(model, adapter, is_trainable=True)
    has = module.peft_config["default"]
    if (has.r, has.lora_alpha) != (lora.r, lora.alpha):
        raise invalid(
            f"`{field}` must be that of the version it goes on from: r {has.r} and alpha {has.lora_alpha:g}; "
            f"got {lora.r} and {lora.alpha:g}. To change them, start from the base model."
        )
    asked = peft_settings(lora)
    for name in ("use_rslora", "use_dora", "rank_pattern", "alpha_pattern"):
        if getattr(has, name) != asked[name]:
            raise invalid(
                f"`{field}` must be that of the version it goes on from: {name} is {getattr(has, name)}, not {asked[name]}."
            )
    has.lora_dropout = lora.dropout
    for layer in module.modules():
        if hasattr(layer, "lora_dropout") and isinstance(layer.lora_dropout, nn.ModuleDict):
            layer.lora_dropout["default"] = nn.Dropout(lora.dropout) if lora.dropout else nn.Identity()
    return module
