"""What a method decides: which parameters exist and move, what they cost, and in which form they are published."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.methods import PublishedFormat
from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.model_facts import ModelFacts


class Method(ABC):
    """One member of `spec.method`. Methods have no state: everything is in the RunConfig."""

    is_adapter = False
    """Published as an adapter that needs the base model; otherwise as a whole model."""
    format: PublishedFormat = "safetensors"
    """Of what is published."""
    tags: Sequence[str] = ()
    """Of the model card."""
    learning_rate: float
    """At the peak of the schedule, where the user names none."""
    new_head_learning_rate: float
    """The same where the task's head is new: it starts at random."""
    undecayed: Sequence[str] = ()
    """Ends of the names of trained matrices that weight decay would harm."""

    def check(self, config: RunConfig, facts: ModelFacts) -> None:
        """Whether the method can be applied to such a model, from its sizes and names alone.

        Raises:
            TrainerError: ConfigInvalid naming the field and what would do.
        """
        del config, facts

    def default_learning_rate(self, *, is_head_new: bool) -> float:
        """At the peak of the schedule, where the user names none."""
        return self.new_head_learning_rate if is_head_new else self.learning_rate

    def load_arguments(self, config: RunConfig) -> dict[str, Any]:
        """More arguments of `from_pretrained`."""
        del config
        return {}

    @abstractmethod
    def trained_parameters(self, config: RunConfig, facts: ModelFacts) -> int:
        """How many weights move."""

    def kept_layers(self, config: RunConfig, facts: ModelFacts) -> int:
        """Of how many layers the backward pass needs the activations."""
        del config
        return facts.layers

    def weight_bytes(self, config: RunConfig, facts: ModelFacts, bytes_per_value: int) -> int:
        """Memory of all weights: an adapter's and those that are published are float32, those under an adapter as computed."""
        if self.is_adapter:
            return 4 * self.trained_parameters(config, facts) + bytes_per_value * facts.parameters
        return 4 * facts.parameters

    def still_parts(self, base: Any) -> Sequence[nn.Module]:
        """Frozen parts that run without dropout, and with the statistics of their norms as they are, while the rest trains."""
        del base
        return ()

    @abstractmethod
    def apply(self, config: RunConfig, model: Any, new_parameters: Sequence[str], adapter: Path | None) -> Any:
        """Freeze and wrap, so that exactly the method's parameters require gradients.

        Args:
            config: of the run.
            model: a transformers model in float32.
            new_parameters: names of weights that the files did not have: the task's new head.
            adapter: folder of an earlier version's adapter to go on from.

        Raises:
            TrainerError: ConfigInvalid where the method does not fit the model.
        """


def invalid(message: str) -> TrainerError:
    """The user's configuration must change."""
    return TrainerError(TrainerReason.CONFIG_INVALID, message)
