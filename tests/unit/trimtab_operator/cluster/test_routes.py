"""Whom a change wakes."""

from typing import Any

import pytest

from trimtab_operator import names
from trimtab_operator.cluster.routes import affected
from trimtab_operator.cluster.store import Change, Store
from trimtab_operator.cluster.trim import Stored
from trimtab_operator.state import Key


def a(
    kind: str, name: str, *, owner: tuple[str, str] | None = None, labels: dict[str, str] | None = None, **body: Any
) -> Stored:
    cluster_scoped = kind.endswith("Profile")
    metadata: dict[str, Any] = {"name": name, "uid": f"{kind}-{name}", "resourceVersion": "1", "labels": labels or {}}
    if not cluster_scoped:
        metadata["namespace"] = "team"
    if owner is not None:
        metadata["ownerReferences"] = [
            {"kind": owner[0], "name": owner[1], "uid": f"{owner[0]}-{owner[1]}", "controller": True}
        ]
    return Stored.of({"kind": kind, "metadata": metadata, **body})


OUTPUT = {"modelName": "tone"}
WORLD = (
    a("FineTuneJob", "waiting", spec={"output": OUTPUT, "model": {"uri": "modelversion://tone-v1"}}),
    a(
        "FineTuneJob",
        "running",
        spec={"output": OUTPUT, "model": {"uri": "s3://m/a"}},
        status={"resolved": {"profileName": "p"}, "modelVersion": "tone-v2"},
    ),
    a(
        "FineTuneJob",
        "between-attempts",
        spec={"output": OUTPUT, "model": {"uri": "modelversion://judge-v1"}},
        status={"resolved": {"profileName": "p"}, "state": "Retrying"},
    ),
    a(
        "FineTuneJob",
        "ended",
        spec={"output": OUTPUT, "model": {"uri": "modelversion://judge-v1"}},
        status={"resolved": {"profileName": "p"}, "state": "Complete"},
    ),
    a("ModelVersion", "tone-v1", spec={"modelName": "tone"}),
    a("ModelRollout", "tone", spec={"modelName": "tone"}),
    a("ModelRollout", "other", spec={"modelName": "other"}),
    a("Job", "running-a1", owner=("FineTuneJob", "running")),
    a("Deployment", "tone-server", owner=("ModelRollout", "tone")),
)
WAITING, RUNNING = Key("FineTuneJob", "team", "waiting"), Key("FineTuneJob", "team", "running")
ROLLOUT, OTHER = Key("ModelRollout", "team", "tone"), Key("ModelRollout", "team", "other")
VERSION = Key("ModelVersion", "team", "tone-v1")
ROLLOUT_LABELS = {names.ROLLOUT_LABEL: "tone"}


@pytest.mark.parametrize(
    ("changed", "keys"),
    [
        pytest.param(a("FineTuneJob", "running"), {RUNNING}, id="a job: itself"),
        pytest.param(a("Job", "running-a1", owner=("FineTuneJob", "running")), {RUNNING}, id="a Job: its owner"),
        pytest.param(a("Job", "foreign", owner=("CronJob", "x")), set(), id="a Job of somebody else"),
        pytest.param(a("Job", "orphan", labels={names.JOB_LABEL: "running"}), set(), id="a label is no ownership"),
        pytest.param(a("Pod", "p", owner=("Job", "running-a1")), {RUNNING}, id="a pod: the owner of its Job"),
        pytest.param(a("Pod", "p", labels=ROLLOUT_LABELS), {ROLLOUT}, id="a server's pod: its rollout"),
        pytest.param(a("Pod", "p", labels={names.ROLLOUT_LABEL: "nobody"}), set(), id="a label that names nobody"),
        pytest.param(
            a("Deployment", "tone-server", owner=("ModelRollout", "tone")), {ROLLOUT}, id="a Deployment: its rollout"
        ),
        pytest.param(
            a("TrainingProfile", "p"),
            {Key("TrainingProfile", "", "p"), WAITING, VERSION, ROLLOUT, OTHER},
            id="a new profile: who waits for it",
        ),
        pytest.param(
            a("ModelVersion", "tone-v1", spec={"modelName": "tone"}),
            {VERSION, WAITING, ROLLOUT},
            id="a version: who starts from it, who serves its model",
        ),
        pytest.param(
            a("ModelVersion", "tone-v2", spec={"modelName": "tone"}),
            {Key("ModelVersion", "team", "tone-v2"), RUNNING, ROLLOUT},
            id="a version: who made it",
        ),
        pytest.param(
            a("ModelVersion", "judge-v1", spec={"modelName": "judge"}),
            {Key("ModelVersion", "team", "judge-v1"), Key("FineTuneJob", "team", "between-attempts")},
            id="a version: whose next attempt starts from it",
        ),
        pytest.param(
            a("ModelRollout", "tone", spec={"modelName": "tone"}),
            {ROLLOUT, VERSION},
            id="a rollout: the versions that list who uses them",
        ),
    ],
)
def test_who_looks_again(changed: Stored, keys: set[Key]) -> None:
    store = Store()
    for stored in WORLD:
        store.put(stored)

    assert affected(store, Change(None, changed)) == keys


def test_only_a_changed_spec_of_a_profile_wakes_its_readers() -> None:
    store = Store()
    for stored in WORLD:
        store.put(stored)
    before = a("StorageProfile", "s", status={"probe": {}})

    assert affected(store, Change(before, a("StorageProfile", "s"))) == {Key("StorageProfile", "", "s")}
    assert VERSION in affected(store, Change(before, None))
