"""Documentation that must not fall behind the code."""

from pathlib import Path

import pytest

from trimtab_operator.api.v1alpha1.reasons import Reason
from trimtab_trainer.contract.exit_codes import TrainerReason

PAGE = (Path(__file__).parents[3] / "docs" / "troubleshooting.md").read_text()


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_is_explained(reason: Reason) -> None:
    assert f"`{reason.value}`" in PAGE


@pytest.mark.parametrize("reason", list(TrainerReason))
def test_every_end_of_a_trainer_is_a_reason_of_the_api(reason: TrainerReason) -> None:
    assert reason.value in set(Reason)
