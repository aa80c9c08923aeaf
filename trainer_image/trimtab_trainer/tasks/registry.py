"""The tasks by their names in `spec.task`."""

from collections.abc import Mapping

from trimtab_trainer.contract import spec
from trimtab_trainer.tasks.definition import TaskDefinition
from trimtab_trainer.tasks.language_modeling import CausalLanguageModeling
from trimtab_trainer.tasks.multi_label import MultiLabelClassification
from trimtab_trainer.tasks.question_answering import ExtractiveQuestionAnswering
from trimtab_trainer.tasks.sequence_classification import TextClassification
from trimtab_trainer.tasks.token_classification import WordTagging

TASKS: Mapping[str, TaskDefinition] = {
    "causalLanguageModeling": CausalLanguageModeling(),
    "sequenceClassification": TextClassification(),
    "tokenClassification": WordTagging(),
    "questionAnswering": ExtractiveQuestionAnswering(),
}
MULTI_LABEL = MultiLabelClassification()


def task_of(task: spec.Task) -> TaskDefinition:
    """What `spec.task` names."""
    if task.sequence_classification is not None and task.sequence_classification.multi_label:
        return MULTI_LABEL
    return TASKS[task.kind]
