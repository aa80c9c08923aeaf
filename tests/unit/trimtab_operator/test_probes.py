"""When the operator calls itself ill, and what its metrics count."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from tests.support.manifests import smallest

from trimtab_operator.api.times import format_time
from trimtab_operator.cluster.store import Store
from trimtab_operator.cluster.trim import Stored
from trimtab_operator.probes import Probes, Vitals
from trimtab_operator.reconcile.queue import Queue
from trimtab_operator.state import Key

KEY = Key("FineTuneJob", "demo", "sample")
Change = Callable[[Vitals], Vitals]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def healthy() -> Vitals:
    clock = Clock()
    return Vitals(
        watch_ages=lambda: {"FineTuneJob": 100.0},
        watching=lambda: True,
        synced=lambda: True,
        leading=lambda: True,
        lease_age=lambda: 3.0,
        queue=Queue(clock=clock),
        store=Store(),
    )


def an_old_key(vitals: Vitals) -> Vitals:
    vitals.queue.add(KEY)
    vitals.queue._clock.now = 400.0  # type: ignore[attr-defined]
    return vitals


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        pytest.param(lambda vitals: vitals, 200, "ok", id="well"),
        pytest.param(
            lambda vitals: replace(vitals, watch_ages=lambda: {"Pod": 500.0}), 503, "watch of Pod", id="a silent watch"
        ),
        pytest.param(lambda vitals: replace(vitals, watching=lambda: False), 503, "thread", id="Kopf's thread is dead"),
        pytest.param(lambda vitals: replace(vitals, lease_age=lambda: 40.0), 503, "Lease", id="a stale Lease"),
        pytest.param(an_old_key, 503, "queue", id="a stuck queue"),
        pytest.param(
            lambda vitals: replace(an_old_key(vitals), leading=lambda: False),
            200,
            "ok",
            id="a standby's queue may wait",
        ),
    ],
)
async def test_liveness(change: Change, code: int, says: str) -> None:
    async with TestClient(TestServer(Probes(change(healthy())).probes())) as client, client.get("/healthz") as response:
        assert response.status == code
        assert says in await response.text()


@pytest.mark.parametrize(("synced", "code"), [(True, 200), (False, 503)])
async def test_readiness(code: int, *, synced: bool) -> None:
    vitals = replace(healthy(), synced=lambda: synced, leading=lambda: False)
    async with TestClient(TestServer(Probes(vitals).probes())) as client, client.get("/readyz") as response:
        assert response.status == code


def running(name: str, minutes: float | None) -> Stored:
    job = smallest("FineTuneJob")
    status: dict[str, Any] = {"state": "Running"}
    if minutes is not None:
        status["lastCheckpoint"] = {"time": format_time(datetime.now(UTC) - timedelta(minutes=minutes))}
    metadata = {"name": name, "namespace": "demo", "uid": name, "resourceVersion": "1"}
    return Stored.of({**job, "metadata": metadata, "status": status})


async def test_metrics_count_jobs_and_the_work_at_risk() -> None:
    vitals = healthy()
    for stored in (running("a", 5), running("b", 10), running("c", None)):
        vitals.store.put(stored)
    async with TestClient(TestServer(Probes(vitals).metrics())) as client, client.get("/metrics") as response:
        text = await response.text()

    assert 'trimtab_jobs{namespace="demo",state="Running"} 3.0' in text
    age = next(line for line in text.splitlines() if line.startswith("trimtab_checkpoint_age_seconds{"))
    assert float(age.rpartition(" ")[2]) == pytest.approx(600, abs=10)
