"""The tasks by their names in `spec.task`."""

from collections.abc import Mapping

from trimtab_trainer.tasks.definition import TaskDefinition
from trimtab_trainer.tasks.language_modeling import CausalLanguageModeling
from trimtab_trainer.tasks.sequence_classification import TextClassification

TASKS: Mapping[str, TaskDefinition] = {
    "causalLanguageModeling": CausalLanguageModeling(),
    "sequenceClassification": TextClassification(),
}
