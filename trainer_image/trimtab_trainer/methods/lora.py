"""Method lora: low-rank adapters by peft (Hu et al., 2021, arXiv:2106.09685)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.contract.spec import Lora
from trimtab_trainer.methods.method import Method, invalid
from trimtab_trainer.methods.targets import check_target_modules, is_target
from trimtab_trainer.model_facts import ModelFacts
from trimtab_trainer.objectives.registry import definition_of


class LowRankAdapters(Method):
    """Frozen weights, and beside each chosen matrix a product of two small ones."""

    is_adapter = True
    tags = ("lora",)

    def check(self, config: RunConfig, facts: ModelFacts) -> None:
        """Every name in targetModules must match a layer."""
        check_target_modules(_settings(config).target_modules, facts, field="method.lora.targetModules")

    def trained_parameters(self, config: RunConfig, facts: ModelFacts) -> int:
        """R x (inputs + outputs) of each chosen layer."""
        lora = _settings(config)
        chosen = [shape for name, shape in facts.linear_layers.items() if is_target(name, lora.target_modules)]
        return lora.r * sum(sum(shape) for shape in chosen)

    def apply(self, config: RunConfig, model: Any, new_parameters: Sequence[str], adapter: Path | None) -> PeftModel:
        """A new adapter, or an earlier version's one that is trained on; a new head is trained and saved with it."""
        if adapter is not None:
            return continue_lora(model, _settings(config), adapter)
        return add_lora(config, model, new_parameters)


def add_lora(config: RunConfig, model: Any, new_parameters: Sequence[str]) -> PeftModel:
    """A new adapter, and a new head that is trained and saved with it.

    Raises:
        TrainerError: ConfigInvalid where `targetModules` matches nothing.
    """
    torch.manual_seed(config.training.seed)
    lora = _settings(config)
    targets = list(lora.target_modules)
    settings = LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules="all-linear" if targets == ["all-linear"] else targets,
        modules_to_save=sorted({name.rpartition(".")[0] for name in new_parameters}) or None,
        task_type=definition_of(config).peft_task_type,
    )
    try:
        return get_peft_model(model, settings)
    except ValueError as error:
        raise invalid(f"`method.lora` cannot be applied to this model: {error}") from error


def continue_lora(model: Any, lora: Lora, adapter: Path) -> PeftModel:
    """Train an earlier version's adapter on, so that it still is one adapter on the same base model.

    Raises:
        TrainerError: ConfigInvalid where the job asks for another shape than the adapter has.
    """
    module = PeftModel.from_pretrained(model, adapter, is_trainable=True)
    has = module.peft_config["default"]
    if (has.r, has.lora_alpha) != (lora.r, lora.alpha):
        raise invalid(
            f"`method.lora` must be that of the version it goes on from: r {has.r} and alpha {has.lora_alpha:g}; "
            f"got {lora.r} and {lora.alpha:g}. To change them, start from the base model."
        )
    has.lora_dropout = lora.dropout
    for layer in module.modules():
        if hasattr(layer, "lora_dropout") and isinstance(layer.lora_dropout, nn.ModuleDict):
            layer.lora_dropout["default"] = nn.Dropout(lora.dropout) if lora.dropout else nn.Identity()
    return module


def _settings(config: RunConfig) -> Lora:
    if config.method.lora is None:
        raise TypeError("method.lora is not set")
    return config.method.lora
