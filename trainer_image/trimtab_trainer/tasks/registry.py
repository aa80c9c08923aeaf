"""The tasks by their names in `spec.task`."""

from collections.abc import Mapping

from trimtab_trainer.contract import spec
from trimtab_trainer.tasks.definition import TaskDefinition
from trimtab_trainer.tasks.image_classification import PictureLabelling
from trimtab_trainer.tasks.image_text_matching import ImageTextContrast
from trimtab_trainer.tasks.multi_label import MultiLabelClassification
from trimtab_trainer.tasks.multi_task import MultiTaskLearning
from trimtab_trainer.tasks.object_detection import SceneDetection
from trimtab_trainer.tasks.question_answering import ExtractiveQuestionAnswering
from trimtab_trainer.tasks.sequence_classification import TextClassification
from trimtab_trainer.tasks.speech_recognition import SpeechTranscription
from trimtab_trainer.tasks.token_classification import WordTagging
from trimtab_trainer.tasks.written_answers import AnsweringLanguageModels

TASKS: Mapping[str, TaskDefinition] = {
    "causalLanguageModeling": AnsweringLanguageModels(),
    "sequenceClassification": TextClassification(),
    "tokenClassification": WordTagging(),
    "questionAnswering": ExtractiveQuestionAnswering(),
    "imageClassification": PictureLabelling(),
    "objectDetection": SceneDetection(),
    "imageTextMatching": ImageTextContrast(),
    "speechRecognition": SpeechTranscription(),
}
MULTI_LABEL = MultiLabelClassification()


def task_of(task: spec.Task) -> TaskDefinition:
    """What `spec.task` names."""
    if task.sequence_classification is not None and task.sequence_classification.multi_label:
        return MULTI_LABEL
    if task.multi_task is not None:
        return MultiTaskLearning(task.multi_task)
    return TASKS[task.kind]
