"""Methods adapter and reft: small modules of ours beside a frozen model (see own_adapters.py)."""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from trimtab_trainer.contract.methods import Adapter, Reft
from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.methods import bottleneck, loreft
from trimtab_trainer.methods.method import Method, invalid
from trimtab_trainer.methods.own_adapters import (
    AdapterFile,
    add_modules,
    is_adapted,
    load_adapter,
    read_settings,
    require_gradients,
)
from trimtab_trainer.model_facts import ModelFacts


class OwnAdapters(Method):
    """What both have in common."""

    is_adapter = True
    format = "trimtabAdapter"

    @abstractmethod
    def settings(self, config: RunConfig) -> AdapterFile:
        """What is written beside the weights."""

    def apply(self, config: RunConfig, model: Any, new_parameters: Sequence[str], adapter: Path | None) -> Any:
        """New modules, or an earlier version's that are trained on; a new head is trained and saved with them.

        Raises:
            TrainerError: ConfigInvalid where the architecture has no place for them, or the version has others.
        """
        torch.manual_seed(config.training.seed)
        if adapter is None:
            return require_gradients(add_modules(model, self.settings(config)), new_parameters)
        if not is_adapted(adapter):
            raise invalid(
                f"`method.{config.method.kind}` cannot train an adapter of peft on; start from the base model."
            )
        has = read_settings(adapter).model_copy(update={"base_model": ""})
        if has != self.settings(config):
            raise invalid(
                f"`method.{config.method.kind}` must be that of the version it goes on from: {has.to_json()}."
            )
        return require_gradients(load_adapter(model, adapter), new_parameters)


class BottleneckAdapters(OwnAdapters):
    """Houlsby's and Pfeiffer's."""

    tags = ("bottleneck-adapter",)
    learning_rate = 0.0005
    new_head_learning_rate = 0.005

    def trained_parameters(self, config: RunConfig, facts: ModelFacts) -> int:
        """Two matrices and their biases in each place."""
        return bottleneck.count_parameters(self._own(config), facts)

    def settings(self, config: RunConfig) -> AdapterFile:
        """What is written beside the weights."""
        return AdapterFile(adapter=self._own(config))

    def _own(self, config: RunConfig) -> Adapter:
        if config.method.adapter is None:
            raise TypeError("method.adapter is not set")
        return config.method.adapter


class RepresentationFineTuning(OwnAdapters):
    """LoReFT."""

    tags = ("reft",)
    learning_rate = 0.001
    new_head_learning_rate = 0.005
    undecayed = (f"{loreft.MODULE}.rotation",)

    def trained_parameters(self, config: RunConfig, facts: ModelFacts) -> int:
        """R, W and b of each chosen layer."""
        return loreft.count_parameters(self._own(config), facts)

    def settings(self, config: RunConfig) -> AdapterFile:
        """What is written beside the weights."""
        return AdapterFile(reft=self._own(config))

    def _own(self, config: RunConfig) -> Reft:
        if config.method.reft is None:
            raise TypeError("method.reft is not set")
        return config.method.reft
