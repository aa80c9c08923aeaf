"""Method headOnly: the task's head moves, the trunk stays bit-identical."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.methods.frozen import frozen_parts, trunk_of
from trimtab_trainer.methods.method import Method
from trimtab_trainer.methods.whole_models import head_parameters, with_adapter_folded_in
from trimtab_trainer.model_facts import ModelFacts


class HeadOnly(Method):
    """A linear probe."""

    learning_rate = 0.0002
    new_head_learning_rate = 0.02

    def trained_parameters(self, config: RunConfig, facts: ModelFacts) -> int:
        """The matrix to the vocabulary, or about one vector a class."""
        return facts.head_size if config.task.causal_language_modeling is not None else facts.width

    def kept_layers(self, config: RunConfig, facts: ModelFacts) -> int:
        """A trunk without gradients keeps none of the layers."""
        del config, facts
        return 1

    def weight_bytes(self, config: RunConfig, facts: ModelFacts, bytes_per_value: int) -> int:
        """A head that shared its weights with the embeddings gets its own."""
        del bytes_per_value
        return 4 * (facts.parameters + self.trained_parameters(config, facts))

    def still_parts(self, base: Any) -> Sequence[nn.Module]:
        """Whatever does not move in the trunk: features are a fixed function of an example."""
        return frozen_parts(trunk_of(base))

    def apply(self, config: RunConfig, model: Any, new_parameters: Sequence[str], adapter: Path | None) -> Any:
        """An earlier version's adapter becomes part of the weights first."""
        del config
        model = with_adapter_folded_in(model, adapter).requires_grad_(requires_grad=False)
        for parameter in head_parameters(model, () if adapter else new_parameters):
            parameter.requires_grad_(requires_grad=True)
        return model
