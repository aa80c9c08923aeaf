"""Which objectives go with which tasks: the API's rules and the trainer's code say the same."""

import pytest
from tests.support.training import make_job

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.objectives import TASKS_OF_OBJECTIVE
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.objectives.registry import OBJECTIVES, definition_of


def test_the_api_lets_in_what_the_trainer_can_do() -> None:
    assert {(objective, task) for objective, tasks in TASKS_OF_OBJECTIVE.items() for task in tasks} == set(OBJECTIVES)


def test_a_pair_that_makes_no_sense_is_refused_with_what_would_do() -> None:
    job = make_job(task={"sequenceClassification": {}}, objective={"continuedPretraining": {}})
    with pytest.raises(TrainerError, match="needs the task causalLanguageModeling") as refused:
        definition_of(job)
    assert refused.value.reason is TrainerReason.CONFIG_INVALID
