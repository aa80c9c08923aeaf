"""What is kept of an object, and how it is found again."""

from typing import Any

import pytest

from trimtab_operator.cluster import trim
from trimtab_operator.cluster.trim import Stored

METADATA = {"name": "a", "namespace": "team", "uid": "u", "resourceVersion": "7"}


def test_what_nobody_reads_is_not_kept() -> None:
    applied = "kubectl.kubernetes.io/last-applied-configuration"
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**METADATA, "managedFields": [{"big": 1}], "annotations": {applied: "{}", "mine": "yes"}},
        "spec": {"nodeName": "n", "containers": [{"env": [{"name": "SECRET", "value": "x"}]}]},
        "status": {"phase": "Running", "qosClass": "Burstable"},
    }

    kept = Stored.of(body).body()

    assert kept == {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**METADATA, "annotations": {"mine": "yes"}},
        "spec": {"nodeName": "n"},
        "status": {"phase": "Running"},
    }
    assert applied in body["metadata"]["annotations"], "the original is left alone"


def test_a_jobs_template_is_not_kept() -> None:
    kept = Stored.of({"kind": "Job", "metadata": METADATA, "spec": {"suspend": True, "template": {"spec": {}}}}).body()

    assert kept["spec"] == {"suspend": True}


@pytest.mark.parametrize(
    ("owners", "uid"),
    [
        pytest.param([], "", id="nobody"),
        pytest.param([{"uid": "x"}], "", id="an owner that does not control"),
        pytest.param([{"uid": "x"}, {"uid": "y", "controller": True}], "y", id="the controller"),
    ],
)
def test_the_owner_is_the_controller(owners: list[dict[str, Any]], uid: str) -> None:
    assert trim.controller_uid({"ownerReferences": owners}) == uid


JOB = {"model": {"uri": "s3://m/a"}, "output": {"modelName": "tone"}}


@pytest.mark.parametrize(
    ("spec", "status", "expected"),
    [
        pytest.param(
            JOB,
            {},
            {"FineTuneJob|model|team|tone", trim.UNRESOLVED_JOBS, "FineTuneJob|state|Pending"},
            id="new",
        ),
        pytest.param(
            {**JOB, "model": {"uri": "modelversion://base-v3"}},
            {},
            {
                "FineTuneJob|model|team|tone",
                trim.UNRESOLVED_JOBS,
                "FineTuneJob|state|Pending",
                "FineTuneJob|version|team|base-v3",
            },
            id="from a version",
        ),
        pytest.param(
            JOB,
            {"resolved": {"profileName": "p"}, "state": "Running", "lastCheckpoint": {"time": "2026-01-01T00:00:00Z"}},
            {"FineTuneJob|model|team|tone", "FineTuneJob|state|Running", "FineTuneJob|checkpoint|2026-01-01T00:00:00Z"},
            id="running",
        ),
        pytest.param(
            JOB,
            {"resolved": {"profileName": "p"}, "state": "Complete", "modelVersion": "tone-v1"},
            {"FineTuneJob|model|team|tone", "FineTuneJob|state|Complete", "FineTuneJob|version|team|tone-v1"},
            id="complete",
        ),
    ],
)
def test_terms_of_a_fine_tune_job(spec: dict[str, Any], status: dict[str, Any], expected: set[str]) -> None:
    stored = Stored.of({"kind": "FineTuneJob", "metadata": METADATA, "spec": spec, "status": status})

    assert set(stored.terms) == expected
