"""What a run learns: the task itself, or an objective of its own over the task's model."""

from collections.abc import Mapping

from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.tasks.definition import TaskDefinition
from trimtab_trainer.tasks.registry import task_of

OBJECTIVES: Mapping[tuple[str, str], TaskDefinition] = {}
"""By objective and task; the objective `supervised` is every task's own loss."""


def definition_of(config: RunConfig) -> TaskDefinition:
    """What `spec.task` and `spec.objective` name together."""
    if config.objective.supervised is not None:
        return task_of(config.task)
    return OBJECTIVES[config.objective.kind, config.task.kind]
