"""Who is woken by what a reconcile itself has written: the watch brings the same version later, and is ignored."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from trimtab_operator.cluster.client import Client
from trimtab_operator.cluster.trim import Stored
from trimtab_operator.runtime import Core
from trimtab_operator.settings import Settings
from trimtab_operator.state import Key
from trimtab_trainer.contract.messages import TrainerReport


def stored(kind: str, name: str, **spec: Any) -> Stored:
    metadata = {"name": name, "namespace": "team", "uid": f"{kind}-{name}", "resourceVersion": "7"}
    return Stored.of({"apiVersion": "trimtab.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec})


ROLLOUT = stored("ModelRollout", "tone", modelName="tone", version=1)
JOB = stored("FineTuneJob", "tone", model={"uri": "s3://models/base"}, output={"modelName": "tone"})
VERSION = stored("ModelVersion", "tone-v1", modelName="tone", version=1)


@pytest.mark.parametrize(
    ("written", "by", "woken"),
    [
        pytest.param(
            VERSION,
            JOB,
            {("ModelVersion", "tone-v1"), ("ModelRollout", "tone")},
            id="a job publishes what a rollout waits for",
        ),
        pytest.param(
            VERSION, VERSION, {("ModelRollout", "tone")}, id="a version's own status wakes its rollout, not itself"
        ),
    ],
)
async def test_our_own_writes_wake_those_who_wait(written: Stored, by: Stored, woken: set[tuple[str, str]]) -> None:
    core = Core(cast("Client", None), Settings())
    for known in {JOB, ROLLOUT} - {written}:
        core.store.put(known)
    core.store.wrote(written, by=by)
    keys: set[Key] = set()
    while key := core.queue.take():
        keys.add(key)
    assert {(key.kind, key.name) for key in keys} == woken


def test_what_an_object_left_in_memory_goes_with_it_though_its_deletion_was_lost() -> None:
    core = Core(cast("Client", None), Settings())
    report = TrainerReport(attempt=1, phase="Training")
    core.watched("changed", JOB)
    core.reports.take(JOB.uid, 1, at=datetime.now(UTC), trainer=report)
    core.watched("changed", replace(JOB, uid="another", version=9))
    assert core.reports.of(JOB.uid, 1) is None
