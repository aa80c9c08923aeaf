from typing import Any

import pytest
from tests.support.manifests import changed, smallest
from tests.support.times import NOW

from trimtab_operator.api.v1alpha1 import Reason, StorageProfile
from trimtab_operator.settings import Settings
from trimtab_operator.state import ObservedStorage, Outcome, Plan, Problem
from trimtab_operator.status.storage_profile.compose import compute_status
from trimtab_trainer.contract.messages import StoreProbe, TrainerReport

ALL_WELL = {
    "conditionalWrites": True,
    "readAfterWrite": True,
    "listAfterWrite": True,
    "multipart": True,
    "checkedAt": "2026-01-02T00:00:00Z",
}
UNKNOWN_SINCE = [
    {
        "type": "Conformant",
        "status": "Unknown",
        "reason": "NotProbed",
        "message": "",
        "lastTransitionTime": "2026-01-02T01:00:00Z",
    }
]


def storage(**changes: Any) -> StorageProfile:
    metadata = {"metadata.generation": 2, "metadata.creationTimestamp": "2026-01-01T00:00:00Z"}
    return StorageProfile.parse(changed(smallest("StorageProfile"), {**metadata, **changes}))


def reported(**changes: Any) -> TrainerReport:
    return TrainerReport(attempt=1, phase="Preparing", store_probe=StoreProbe.model_validate({**ALL_WELL, **changes}))


def stored(**changes: Any) -> StorageProfile:
    """A profile whose status already holds a probe of its present spec."""
    return storage(status={"observedGeneration": 2, "probe": {**ALL_WELL, **changes}})


def look(
    profile: StorageProfile, report: TrainerReport | None = None, *, problems: tuple[Problem, ...] = ()
) -> Outcome:
    return compute_status(ObservedStorage(profile, report), problems, Plan(), settings=Settings(), now=NOW)


def conditions(outcome: Outcome) -> dict[str, tuple[str, str]]:
    return {condition["type"]: (condition["status"], condition["reason"]) for condition in outcome.status["conditions"]}


@pytest.mark.parametrize(
    ("profile", "report", "conformant", "ready"),
    [
        pytest.param(storage(), None, ("Unknown", "NotProbed"), "True", id="nobody has probed it"),
        pytest.param(storage(), reported(), ("True", "Conformant"), "True", id="first probe"),
        pytest.param(
            storage(**{"metadata.creationTimestamp": "2026-01-02T00:00:01Z"}),
            reported(),
            ("Unknown", "NotProbed"),
            "True",
            id="a probe from before the profile: of an earlier one of its name",
        ),
        pytest.param(stored(), None, ("True", "Conformant"), "True", id="probed before"),
        pytest.param(
            storage(),
            reported(conditionalWrites=False),
            ("True", "Conformant"),
            "True",
            id="no atomic conditional writes",
        ),
        pytest.param(storage(), reported(readAfterWrite=False), ("False", "NotConformant"), "False", id="reads lag"),
        pytest.param(storage(), reported(listAfterWrite=False), ("False", "NotConformant"), "False", id="lists lag"),
        pytest.param(storage(), reported(multipart=False), ("False", "NotConformant"), "False", id="no multipart"),
        pytest.param(
            stored(),
            reported(multipart=False, checkedAt="2026-01-03T00:00:00Z"),
            ("False", "NotConformant"),
            "False",
            id="newer probe",
        ),
        pytest.param(
            stored(),
            reported(multipart=False, checkedAt="2026-01-01T00:00:00Z"),
            ("True", "Conformant"),
            "True",
            id="older probe",
        ),
        pytest.param(
            storage(status={"observedGeneration": 1, "probe": ALL_WELL, "conditions": UNKNOWN_SINCE}),
            reported(),
            ("Unknown", "NotProbed"),
            "True",
            id="the spec changed: both speak of another store",
        ),
        pytest.param(
            storage(status={"observedGeneration": 2, "conditions": UNKNOWN_SINCE}),
            reported(),
            ("Unknown", "NotProbed"),
            "True",
            id="a probe from before the question",
        ),
        pytest.param(
            storage(status={"observedGeneration": 2, "conditions": UNKNOWN_SINCE}),
            reported(checkedAt="2026-01-02T02:00:00Z"),
            ("True", "Conformant"),
            "True",
            id="a probe of the new spec",
        ),
    ],
)
def test_conformant(
    profile: StorageProfile, report: TrainerReport | None, conformant: tuple[str, str], ready: str
) -> None:
    found = conditions(look(profile, report))
    assert found["Conformant"] == conformant
    assert found["Ready"][0] == ready
    assert found["Reconciling"][0] == "False"
    assert found["Stalled"][0] == ("False" if ready == "True" else "True")


def test_a_refused_spec_is_not_ready() -> None:
    outcome = look(stored(), problems=(Problem(Reason.SPEC_INVALID, "caBundle is no PEM."),))
    found = conditions(outcome)
    assert (found["Accepted"], found["Ready"]) == (("False", "SpecInvalid"), ("False", "SpecInvalid"))
    assert [(event.type, event.reason) for event in outcome.events] == [
        ("Warning", "SpecInvalid"),
        ("Normal", "Conformant"),
    ]


def test_the_probe_is_kept() -> None:
    assert look(storage(), reported()).status["probe"] == ALL_WELL


def test_a_second_look_changes_nothing() -> None:
    first = look(storage(), reported())
    second = look(storage(status=first.status), reported())
    assert (second.status, second.events) == (first.status, ())
