"""What the machinery does with what a pass says."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from tests.support.fake_api import healthy, refuse
from tests.support.machine import Machine
from tests.support.manifests import smallest

from trimtab_operator.api.v1alpha1 import Reason
from trimtab_operator.cluster.facade import Cluster
from trimtab_operator.cluster.trim import Stored
from trimtab_operator.reconcile.passes import Pass
from trimtab_operator.reconcile.worker import RECONCILERS
from trimtab_operator.settings import Settings
from trimtab_operator.state import Key

KEY = Key("FineTuneJob", "demo", "sample")


def another_job(name: str) -> dict[str, Any]:
    job = smallest("FineTuneJob")
    job["metadata"]["name"] = name
    return job


async def test_a_job_gets_its_attempt_in_few_writes() -> None:
    machine = await (await Machine().given().look()).settle()

    job = machine.api.find("Job", "demo", "sample-a1")
    assert job is not None
    assert job["metadata"]["ownerReferences"][0] | {"uid": ""} == {
        "apiVersion": "trimtab.dev/v1alpha1",
        "kind": "FineTuneJob",
        "name": "sample",
        "uid": "",
        "controller": True,
        "blockOwnerDeletion": True,
    }
    written = [
        (verb, kind) for verb, kind, _ in machine.api.writes() if kind not in ("StorageProfile", "TrainingProfile")
    ]
    assert sorted(written) == [("create", "ConfigMap"), ("create", "Job"), ("replace", "FineTuneJob")]


async def test_at_rest_nothing_is_written() -> None:
    machine = await (await Machine().given().look()).settle()
    machine.api.requests.clear()

    for _ in range(3):
        await (await machine.look()).settle()

    assert machine.api.writes() == []


async def test_a_refused_write_is_told_and_tried_again() -> None:
    machine = Machine().given()
    machine.api.before = refuse("create", "Job")
    await (await machine.look()).settle()

    assert machine.api.find("Job", "demo", "sample-a1") is None
    assert "QuotaExceeded" in repr(machine.job()["status"]["conditions"])
    written = len(machine.api.writes())
    await (await machine.look()).settle()
    told = [write for write in machine.api.writes()[written:] if write[0] == "replace"]
    assert told == [], "the same refusal is not told twice"

    machine.api.before = healthy
    machine.now += 300
    await machine.settle()

    assert machine.api.find("Job", "demo", "sample-a1") is not None
    assert "QuotaExceeded" not in repr(machine.job()["status"]["conditions"])


async def test_somebody_elses_object_of_that_name_is_not_touched() -> None:
    machine = Machine().given()
    foreign = machine.api.put(
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "sample-a1", "namespace": "demo"}, "spec": {}}
    )
    await (await machine.look()).settle()

    assert machine.api.find("Job", "demo", "sample-a1") == foreign
    assert "NameConflict" in repr(machine.job()["status"]["conditions"])


async def test_jobs_of_another_controller_are_left_alone() -> None:
    machine = await (await Machine().given(managedBy="example.com/other").look()).settle()

    assert "status" not in machine.job()


async def test_an_object_that_nobody_can_read_says_so_once() -> None:
    machine = Machine().given()
    broken = another_job("broken")
    broken["spec"]["method"] = {}
    machine.api.put(broken)
    await (await machine.look()).settle()

    assert machine.condition("Accepted", "broken") == "False SpecInvalid"
    assert "method" in repr(machine.job("broken")["status"])
    assert machine.api.find("Job", "demo", "sample-a1") is not None, "others go on"
    machine.api.requests.clear()
    await (await machine.look()).settle()
    assert machine.api.writes() == []


async def test_a_pass_that_crashes_stops_nobody_else() -> None:
    async def explode(stored: Stored, cluster: Cluster, *, settings: Settings, now: datetime) -> Pass:
        if stored.name == "sample":
            raise ZeroDivisionError
        return await RECONCILERS["FineTuneJob"](stored, cluster, settings=settings, now=now)

    machine = Machine(reconcilers={**RECONCILERS, "FineTuneJob": explode}).given()
    machine.api.put(another_job("healthy"))
    await (await machine.look()).settle()

    assert machine.api.find("Job", "demo", "healthy-a1") is not None
    assert machine.api.find("Job", "demo", "sample-a1") is None


@pytest.mark.parametrize(
    ("outcome", "due"),
    [
        pytest.param(Pass(), None, id="settled"),
        pytest.param(Pass(after=timedelta(seconds=7)), 7.0, id="look again later"),
        pytest.param(Pass(refused=True), 1.0, id="refused: not before a second"),
        pytest.param(Pass(refused=True, after=timedelta(seconds=0.5)), 0.5, id="whatever is sooner"),
        pytest.param(Pass(again=True), 0.0, id="changes and changes: others first, then again"),
    ],
)
async def test_when_a_key_comes_again(outcome: Pass, due: float | None) -> None:
    async def give(stored: Stored, cluster: Cluster, *, settings: Settings, now: datetime) -> Pass:
        return outcome

    machine = Machine(reconcilers={**RECONCILERS, "FineTuneJob": give}).given()
    await machine.look()
    while (other := machine.core.queue.take()) is not None:
        machine.core.queue.done(other)
    machine.core.queue.add(KEY)
    machine.core.queue.take()

    await machine.work(KEY)

    assert machine.core.queue.next_due() == due


async def test_what_is_being_deleted_is_left_alone() -> None:
    machine = Machine().given()
    job = machine.job()
    job["metadata"]["deletionTimestamp"] = "2026-11-21T12:00:00Z"
    machine.api.put(job)
    await (await machine.look()).settle()

    assert machine.api.find("Job", "demo", "sample-a1") is None
    assert Reason.ACCEPTED not in machine.job().get("status", {})
