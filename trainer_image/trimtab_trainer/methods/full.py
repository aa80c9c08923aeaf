"""Method full: every weight moves."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.methods.method import Method
from trimtab_trainer.methods.whole_models import with_adapter_folded_in
from trimtab_trainer.model_facts import ModelFacts


class FullFineTuning(Method):
    """Nothing is frozen."""

    learning_rate = 0.00005
    new_head_learning_rate = 0.0002

    def trained_parameters(self, config: RunConfig, facts: ModelFacts) -> int:
        """All of them."""
        del config
        return facts.parameters

    def apply(self, config: RunConfig, model: Any, new_parameters: Sequence[str], adapter: Path | None) -> Any:
        """An earlier version's adapter becomes part of the weights first."""
        del config, new_parameters
        return with_adapter_folded_in(model, adapter).requires_grad_(requires_grad=True)
