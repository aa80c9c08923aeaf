"""Events: few, and never in the way."""

import re

import pytest
from tests.support.fake_api import FakeApi, refuse

from trimtab_operator.api.v1alpha1 import Reason
from trimtab_operator.cluster.events import EventWriter
from trimtab_operator.state import EventNote, ObjectRef

JOB = ObjectRef("trimtab.dev/v1alpha1", "FineTuneJob", "demo", "sample", "uid-1", "7")
STARTED = EventNote("Normal", Reason.ATTEMPT_STARTED, "Attempt 1 began.")
RETRYING = EventNote("Warning", Reason.RETRYING, "The node was lost.")


class World:
    def __init__(self) -> None:
        self.api, self.now = FakeApi(), 0.0
        self.writer = EventWriter(self.api, instance="one", clock=lambda: self.now)  # type: ignore[arg-type]

    async def post(self, *notes: tuple[float, EventNote], ref: ObjectRef = JOB) -> list[tuple[str, int]]:
        """Take notes at their times, write them; message and count of what is there."""
        for at, note in notes:
            self.now = at
            self.writer.post(ref, note)
            while not self.writer._waiting.empty():
                taken, text, count = self.writer._waiting.get_nowait()
                await self.writer._write(taken, text, count)
        events = [body for (kind, _, _), body in self.api.objects.items() if kind == "Event"]
        return [(event["message"], event["count"]) for event in events]


@pytest.mark.parametrize(
    ("notes", "expected"),
    [
        pytest.param([(0, STARTED)], [(STARTED.message, 1)], id="one"),
        pytest.param([(0, STARTED), (1, STARTED), (9, STARTED)], [(STARTED.message, 1)], id="repeated at once"),
        pytest.param([(0, STARTED), (1, STARTED), (11, STARTED)], [(STARTED.message, 3)], id="repeated later: counted"),
        pytest.param([(0, STARTED), (1, RETRYING)], [(STARTED.message, 1), (RETRYING.message, 1)], id="another reason"),
        pytest.param(
            [(0, STARTED), (1, EventNote("Normal", Reason.ATTEMPT_STARTED, "Attempt 2 began."))],
            [(STARTED.message, 1), ("Attempt 2 began.", 1)],
            id="the same reason, other words",
        ),
    ],
)
async def test_repetitions_are_counted(notes: list[tuple[float, EventNote]], expected: list[tuple[str, int]]) -> None:
    assert await World().post(*notes) == expected


async def test_an_event_that_expired_is_made_anew() -> None:
    world = World()
    await world.post((0, STARTED))
    world.api.objects.clear()

    assert await world.post((20, STARTED)) == [(STARTED.message, 2)]


async def test_a_restart_counts_on() -> None:
    world = World()
    await world.post((0, STARTED))
    world.writer = EventWriter(world.api, instance="two", clock=lambda: world.now)  # type: ignore[arg-type]

    assert await world.post((1, STARTED)) == [(STARTED.message, 2)]


async def test_events_of_cluster_scoped_objects_live_in_the_default_namespace() -> None:
    world = World()
    await world.post((0, STARTED), ref=JOB._replace(kind="StorageProfile", namespace=""))

    assert [key[1] for key in world.api.objects] == ["default"]


async def test_a_refusal_is_no_error_and_a_flood_is_dropped() -> None:
    world = World()
    world.api.before = refuse("create", "Event")
    for number in range(3000):
        world.writer.post(JOB, EventNote("Normal", Reason.RETRYING, f"message {number}"))

    assert world.writer._waiting.full()


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("a" * 199 + "-" + "b" * 53, id="a dash where it is cut"),
        pytest.param("a" * 198 + "." + "b" * 54, id="a dot where it is cut"),
    ],
)
async def test_the_name_of_an_event_is_a_name_however_long_the_object_s_is(name: str) -> None:
    world = World()
    await world.post((0, STARTED), ref=JOB._replace(name=name))

    ((_, _, written),) = world.api.objects
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", written)
    assert len(written) <= 253
