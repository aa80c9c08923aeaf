"""The status of a ModelVersion."""

from typing import Any

import pytest
from tests.support.builders import NOW, SETTINGS, after, make_profile, make_storage, make_version
from tests.support.manifests import smallest

from trimtab_operator.api.v1alpha1 import ModelRollout, ModelVersion, Reason
from trimtab_operator.plan.model_version.compose import make_plan
from trimtab_operator.state import ObservedVersion, Outcome
from trimtab_operator.status.model_version.compose import compute_status
from trimtab_operator.validation.model_version.compose import check

TRAINED: dict[str, Any] = {
    "source": {"name": "tone", "uid": "1", "attempt": 1, "step": 60},
    "verifiedAt": "2026-11-21T12:00:00Z",
}


def rollout(name: str, *, status: dict[str, Any] | None = None, **spec: Any) -> ModelRollout:
    body = smallest("ModelRollout")
    return ModelRollout.parse(body | {"metadata": {"name": name}, "spec": body["spec"] | spec, "status": status or {}})


EVALUATION: dict[str, Any] = {
    "gates": [{"metric": "accuracy", "source": "test", "successCondition": "result >= 0.9"}],
    "data": {"train": [{"uri": "s3://data/train.jsonl"}], "test": [{"uri": "s3://data/test.jsonl"}]},
}


def judged(*phases: str, approve: str = "") -> ModelVersion:
    """A version whose gates came to this."""
    gates = [
        {"name": f"gate {phase}", "metric": "a", "source": "test", "phase": phase, "holdsBack": phase in HOLD_BACK}
        for phase in phases
    ]
    version = make_version(**TRAINED, gates=gates)
    annotations = {"trimtab.dev/approve": approve} if approve else {}
    metadata = version.metadata.model_copy(update={"annotations": annotations})
    return version.model_copy(update={"metadata": metadata})


HOLD_BACK = ("Failed", "Error", "Inconclusive")


def look(
    version: ModelVersion, *, store: bool = True, rollouts: tuple[ModelRollout, ...] = (), seconds: float = 0
) -> Outcome:
    observed = ObservedVersion(
        version=version, storage=make_storage() if store else None, rollouts=rollouts, profile=make_profile()
    )
    problems = check(observed, settings=SETTINGS)
    plan = make_plan(observed, problems, settings=SETTINGS, now=NOW)
    return compute_status(observed, problems, plan, settings=SETTINGS, now=after(seconds))


def said(outcome: Outcome) -> dict[str, tuple[str, str]]:
    return {condition["type"]: (condition["status"], condition["reason"]) for condition in outcome.status["conditions"]}


@pytest.mark.parametrize(
    ("version", "kind", "expected"),
    [
        pytest.param(make_version(**TRAINED), "Verified", ("True", Reason.BYTES_VERIFIED), id="its trainer read it back"),
        pytest.param(make_version(), "Verified", ("Unknown", Reason.VERIFYING), id="an import"),
        pytest.param(make_version(verifiedAt="yesterday"), "Verified", ("Unknown", Reason.VERIFYING), id="an import that claims to be verified"),
        pytest.param(make_version(), "Reconciling", ("True", Reason.VERIFYING), id="an import is looked at"),
        pytest.param(make_version(**TRAINED), "Promotable", ("True", Reason.PROMOTABLE), id="no gates"),
        pytest.param(judged("Successful"), "Promotable", ("True", Reason.PROMOTABLE), id="gates passed"),
        pytest.param(judged("Failed", "Successful"), "Promotable", ("False", Reason.GATE_FAILED), id="a gate failed"),
        pytest.param(judged("Error", "Inconclusive"), "Promotable", ("False", Reason.GATE_ERROR), id="a gate without a number"),
        pytest.param(judged("Inconclusive"), "Promotable", ("False", Reason.GATE_INCONCLUSIVE), id="an inconclusive gate"),
        pytest.param(judged("Inconclusive", approve="ada: fine"), "Promotable", ("True", Reason.APPROVED), id="an approved inconclusive gate"),
        pytest.param(judged("Failed", "Inconclusive", approve="ada: fine"), "Promotable", ("False", Reason.GATE_FAILED), id="nobody approves failure"),
        pytest.param(judged("Skipped"), "Promotable", ("True", Reason.PROMOTABLE), id="no champion yet"),
        pytest.param(make_version(evaluation=EVALUATION), "Promotable", ("False", Reason.NOT_EVALUATED), id="an import that has to prove something"),
        pytest.param(make_version(evaluation=EVALUATION), "Reconciling", ("True", Reason.EVALUATING), id="and is measured"),
        pytest.param(make_version(**TRAINED), "Ready", ("True", Reason.AVAILABLE), id="ready"),
        pytest.param(make_version(**TRAINED), "Reconciling", ("False", Reason.AVAILABLE), id="does not move"),
        pytest.param(make_version(**TRAINED), "Stalled", ("False", Reason.AVAILABLE), id="needs nobody"),
    ],
)  # fmt: skip
def test_condition(version: ModelVersion, kind: str, expected: tuple[str, str]) -> None:
    assert said(look(version))[kind] == expected


def test_without_its_store() -> None:
    outcome = look(make_version(), store=False)
    assert said(outcome)["Ready"] == ("False", Reason.STORAGE_PROFILE_NOT_FOUND)
    assert said(outcome)["Stalled"] == ("True", Reason.STORAGE_PROFILE_NOT_FOUND)
    assert [event.type for event in outcome.events] == ["Warning"]


def test_which_rollouts_use_it() -> None:
    rollouts = (
        rollout("wants", version=1),
        rollout("serves", version=2, status={"stableVersion": 1}),
        rollout("left", version=2, status={"stableVersion": 2}),
        rollout("other", modelName="other", version=1),
        rollout("moves", version=3, status={"stableVersion": 2, "weights": [{"version": 1, "weight": 5}]}),
    )
    assert look(make_version(), rollouts=rollouts).status["rollouts"] == ["moves", "serves", "wants"]


def test_a_second_look_changes_nothing() -> None:
    version = make_version(**TRAINED)
    first = look(version)
    again = look(version.model_copy(update={"status": type(version.status).model_validate(first.status)}), seconds=60)
    assert again.status == first.status
    assert again.events == ()
