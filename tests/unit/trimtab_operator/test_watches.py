"""However a run of Kopf ends, the next one begins."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from trimtab_operator import watches
from trimtab_operator.cluster.connection import Connection
from trimtab_operator.cluster.resources import WATCHED
from trimtab_operator.intake import Activity, Receiver
from trimtab_operator.settings import Settings
from trimtab_operator.watches import Watches

Run = Callable[[Activity, asyncio.Event], Awaitable[None]]


class Closed:
    closed = True


async def asks_for_everything(activity: Activity, stop: asyncio.Event) -> None:
    for resource in WATCHED:
        activity.request("GET", f"/apis/{resource.plural}?watch=true")
    await stop.wait()


async def fails(activity: Activity, _stop: asyncio.Event) -> None:
    for resource in WATCHED:
        activity.request("GET", resource.path())
    raise RuntimeError("an ERROR in the watch stream")


async def hangs_at_its_end(activity: Activity, _stop: asyncio.Event) -> None:
    activity.session = cast("Any", Closed())
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            continue


async def takes_the_others_along(activity: Activity, stop: asyncio.Event) -> None:
    """As Kopf does when it is cancelled."""
    try:
        await overlooks_a_kind(activity, stop)
    finally:
        for _ in range(20):
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            await asyncio.sleep(0)


async def overlooks_a_kind(activity: Activity, stop: asyncio.Event) -> None:
    activity.request("GET", WATCHED[0].path())
    await stop.wait()


class Runs:
    """What each run of Kopf does, one after the other; the last one goes on."""

    def __init__(self, *runs: Run) -> None:
        self._runs = list(runs)
        self.settled = threading.Event()

    async def __call__(self, *, activity: Activity, stop: asyncio.Event, **_: object) -> None:
        run = self._runs.pop(0) if self._runs else asks_for_everything
        if not self._runs and run is asks_for_everything:
            self.settled.set()
        await run(activity, stop)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("_LOOK_SECONDS", 0.01), ("_GRACE_SECONDS", 0.02), ("_SERVES_SECONDS", 0.1)):
        monkeypatch.setattr(watches, name, seconds)
    monkeypatch.setattr(watches, "_PAUSES", (0.01, 0.01))


def started(monkeypatch: pytest.MonkeyPatch, *runs: Run) -> tuple[Watches, Runs]:
    kopf = Runs(*runs)
    monkeypatch.setattr(watches, "watch", kopf)
    found = Watches(cast("Connection", None), Settings(), cast("Receiver", None))
    found.start()
    return found, kopf


@pytest.mark.parametrize(
    "runs",
    [
        pytest.param([], id="well from the start"),
        pytest.param([fails], id="a watch fails"),
        pytest.param([fails, fails, fails], id="again and again"),
        pytest.param([hangs_at_its_end], id="its end hangs"),
        pytest.param([overlooks_a_kind], id="the API server did not know a kind yet"),
        pytest.param([takes_the_others_along], id="it cancels what is not its own"),
        pytest.param([overlooks_a_kind, hangs_at_its_end, fails], id="everything at once"),
    ],
)
def test_the_next_run_begins(monkeypatch: pytest.MonkeyPatch, runs: list[Run]) -> None:
    found, kopf = started(monkeypatch, *runs, asks_for_everything)

    assert kopf.settled.wait(10)
    assert found.alive
    found.stop()
    assert not found.alive


def test_a_restart_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = threading.Semaphore(0)

    async def begins(activity: Activity, stop: asyncio.Event) -> None:
        begun.release()
        await asks_for_everything(activity, stop)

    found, _ = started(monkeypatch, begins, begins)
    assert begun.acquire(timeout=5)

    found.restart()

    assert begun.acquire(timeout=5)
    found.stop()


def test_signs_of_life() -> None:
    activity = Activity()
    activity.begin()
    assert len(activity.overlooked()) == len(WATCHED)

    activity.request("GET", "/apis/batch/v1/namespaces/demo/jobs?watch=true")
    activity.request("GET", "/api/v1/pods?limit=100")
    activity.request("POST", "/apis/apps/v1/deployments")

    assert {resource.kind for resource in WATCHED} - set(activity.overlooked()) == {"Job", "Pod"}
    assert set(activity.ages()) == {resource.kind for resource in WATCHED}
