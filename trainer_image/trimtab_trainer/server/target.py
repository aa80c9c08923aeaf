"""What answers a request: a model in memory, and what of it is the version's own."""

from dataclasses import dataclass
from typing import Any

from trimtab_trainer.server.adapters import NO_ADAPTER
from trimtab_trainer.server.generation import GenerationLane
from trimtab_trainer.server.rows import Prefix
from trimtab_trainer.server.servable import Servable
from trimtab_trainer.server.task_lane import TaskLane


@dataclass(frozen=True)
class TextTarget:
    """A causal language model."""

    name: str
    lane: GenerationLane
    tokenizer: Any
    adapter: str = NO_ADAPTER
    prefix: Prefix | None = None
    """Trained keys and values before every prompt."""
    owns_lane: bool = True
    """Nobody else uses the model."""

    @property
    def max_length(self) -> int:
        """Tokens of prompt and answer together."""
        return self.lane.model.max_length - (self.prefix.length if self.prefix else 0)


@dataclass(frozen=True)
class TaskTarget:
    """A model of any other task."""

    name: str
    lane: TaskLane
    servable: Servable
    adapter: str = NO_ADAPTER
    owns_lane: bool = True
    """Nobody else uses the model."""


Target = TextTarget | TaskTarget
