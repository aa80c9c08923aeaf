"""A crash before or after any write changes nothing about where the world ends up.

The whole life of a job (an attempt that is lost, one that succeeds, the published version) runs once undisturbed; then once
for every write of that life, with the process dying just before it, and just after it with its reply lost.
"""

import copy
import re
from collections.abc import Callable
from typing import Any

import pytest
from tests.support.fake_api import CrashError, healthy
from tests.support.machine import Machine

from trimtab_operator.errors import ConflictError, OperatorError, RetryableError

Step = Callable[[Machine], Any]
LIFE: tuple[Step, ...] = (
    lambda machine: machine.look(),
    lambda machine: machine.attempt_runs(1),
    lambda machine: machine.attempt_ends(1, code=31),
    lambda machine: machine.attempt_runs(2),
    lambda machine: machine.attempt_ends(2),
)
PATIENCE = 40.0
"""An attempt that was lost is tried again after some seconds."""


async def live(machine: Machine) -> Machine:
    """The whole life. A crash in the middle is followed by a new process that knows nothing."""
    for step in LIFE:
        await step(machine)
        for _ in range(4):
            try:
                await machine.settle()
            except CrashError:
                await machine.restart()
        # Time for the pause between two attempts.
        machine.now += PATIENCE
        await machine.look()
        await machine.settle()
    return machine


def world(machine: Machine) -> dict[str, Any]:
    """What there is, without what differs between any two runs."""
    found = {}
    for (kind, _, name), body in sorted(machine.api.objects.items()):
        kept = copy.deepcopy(body)
        kept["metadata"] = {key: value for key, value in kept["metadata"].items() if key in ("name", "labels")}
        found[f"{kind}/{name}"] = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z|uid-\d+|\d+\.\d+", "…", repr(kept))
    return found


async def undisturbed() -> Machine:
    return await live(Machine().given())


async def test_the_undisturbed_life() -> None:
    machine = await undisturbed()

    assert machine.condition("Complete") == "True Succeeded"
    assert [attempt["reason"] for attempt in machine.job()["status"]["attempts"]] == ["PeerLost", "Succeeded"]
    assert machine.api.find("ModelVersion", "demo", "support-tone-v1") is not None
    assert len(writes_of(machine)) <= 12, "two attempts"


def writes_of(machine: Machine) -> list[tuple[str, str, str]]:
    return [write for write in machine.api.writes() if write[1] not in ("TrainingProfile", "StorageProfile")]


class Fault:
    """Strikes once, at the n-th write."""

    def __init__(self, at: int, error: BaseException) -> None:
        self._left = at
        self._error = error
        self.struck = False

    def __call__(self, verb: str, kind: str, _name: str) -> None:
        if verb in ("create", "apply", "patch", "replace", "delete") and kind != "Event":
            self._left -= 1
            if self._left == 0:
                self.struck = True
                raise self._error


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    "error",
    [
        pytest.param(CrashError("the process dies"), id="crash"),
        pytest.param(RetryableError("the reply is lost"), id="lost reply"),
        pytest.param(ConflictError("somebody wrote first"), id="conflict"),
    ],
)
async def test_any_fault_at_any_write_ends_in_the_same_world(when: str, error: BaseException) -> None:
    expected = world(await undisturbed())
    count = 0
    while True:
        count += 1
        machine = Machine().given()
        fault = Fault(count, error)
        setattr(machine.api, when, fault)

        await live(machine)

        if not fault.struck:
            break
        assert world(machine) == expected, f"{type(error).__name__} {when} write {count}"
    assert count > 8


async def test_a_converged_world_is_not_written_to_after_a_restart() -> None:
    machine = await undisturbed()
    machine.api.requests.clear()

    await machine.restart()
    await machine.settle()

    assert machine.api.writes() == []


async def test_an_api_server_that_is_away_is_waited_for() -> None:
    machine = Machine().given()
    await machine.look()

    def away(verb: str, _kind: str, _name: str) -> None:
        raise OperatorError("connection refused") if verb == "never" else RetryableError("connection refused")

    machine.api.before = away
    for _ in range(6):
        await machine.settle()
        machine.now += 5
    machine.api.before = healthy
    machine.now += 400
    await machine.settle()

    assert machine.api.find("Job", "demo", "sample-a1") is not None
