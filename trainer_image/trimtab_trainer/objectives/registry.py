"""What a run learns: the task itself, or an objective of its own over the task's model."""

from collections.abc import Mapping

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.objectives.continued_pretraining import ContinuedPretrainingOfLanguageModels
from trimtab_trainer.objectives.few_shot import FewShotClassification
from trimtab_trainer.objectives.policy import AnswersFromRewards
from trimtab_trainer.objectives.preference import PreferencesOfLanguageModels
from trimtab_trainer.objectives.reward import RewardModels
from trimtab_trainer.objectives.tao import BestAnswers
from trimtab_trainer.tasks.definition import TaskDefinition
from trimtab_trainer.tasks.registry import task_of

OBJECTIVES: Mapping[tuple[str, str], TaskDefinition] = {
    ("continuedPretraining", "causalLanguageModeling"): ContinuedPretrainingOfLanguageModels(),
    ("reward", "sequenceClassification"): RewardModels(),
    ("fewShot", "sequenceClassification"): FewShotClassification(),
    ("dpo", "causalLanguageModeling"): PreferencesOfLanguageModels(),
    ("orpo", "causalLanguageModeling"): PreferencesOfLanguageModels(),
    ("grpo", "causalLanguageModeling"): AnswersFromRewards(),
    ("rloo", "causalLanguageModeling"): AnswersFromRewards(),
    ("tao", "causalLanguageModeling"): BestAnswers(),
}
"""By objective and task; the objective `supervised` is every task's own loss."""


def definition_of(config: RunConfig) -> TaskDefinition:
    """What `spec.task` and `spec.objective` name together.

    Raises:
        TrainerError: ConfigInvalid where they do not go together.
    """
    objective, task = config.objective.kind, config.task.kind
    if config.objective.supervised is not None:
        return task_of(config.task)
    if (objective, task) not in OBJECTIVES:
        known = " or ".join(name for kind, name in OBJECTIVES if kind == objective)
        raise TrainerError(
            TrainerReason.CONFIG_INVALID, f"`objective.{objective}` needs the task {known}; got `task.{task}`."
        )
    return OBJECTIVES[objective, task]
