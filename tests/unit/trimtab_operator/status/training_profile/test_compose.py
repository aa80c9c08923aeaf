import pytest
from tests.support.manifests import smallest
from tests.support.times import NOW

from trimtab_operator.api.v1alpha1 import Reason, TrainingProfile
from trimtab_operator.settings import Settings
from trimtab_operator.state import ObservedProfile, Plan, Problem
from trimtab_operator.status.training_profile.compose import compute_status

PROBLEM = Problem(Reason.SPEC_INVALID, "spec.scratchSize: no.")


@pytest.mark.parametrize(
    ("problems", "trio", "events"),
    [pytest.param((), "TFF", 0, id="fits"), pytest.param((PROBLEM,), "FFT", 1, id="does not fit")],
)
def test_status(problems: tuple[Problem, ...], trio: str, events: int) -> None:
    profile = TrainingProfile.parse(smallest("TrainingProfile"))
    outcome = compute_status(ObservedProfile(profile), problems, Plan(), settings=Settings(), now=NOW)
    said = {condition["type"]: condition["status"] for condition in outcome.status["conditions"]}
    assert "".join(said[kind][0] for kind in ("Ready", "Reconciling", "Stalled")) == trio
    assert len(outcome.events) == events
