"""The operator with many objects: memory, what it does when nothing happens, a restart, and how fast jobs succeed."""

import argparse
import asyncio
import time
from typing import Any

from audit import writes_of
from contenders import Contender
from lifecycle import Lifecycles
from load import Generator
from tests.support.operator_process import OperatorProcess
from turn import generator

from trimtab_operator.cluster.connection import Connection

Result = dict[str, Any]


async def at_scale(connection: Connection, trimtab: Contender, options: argparse.Namespace) -> Result:
    """Fill up, rest, kill -9 and start again; then jobs that go all the way, beside the others."""
    async with generator(connection, trimtab) as made:
        with trimtab.start(options.log) as operator:
            assert isinstance(operator, OperatorProcess)
            await asyncio.to_thread(operator.wait_ready)
            result: Result = {"objects": options.objects, "memory_mib_empty": operator.memory_mib()[0]}
            names = await made.create("fill", options.objects, per_second=50)
            await made.until_seen(names, within=60 + options.objects / 20)
            await _at_rest(operator, time.monotonic())
            result["memory_mib"], result["memory_peak_mib"] = operator.memory_mib()
            result["idle"] = await _idle(operator, options.idle)
            result["restart"] = await _restart(made, operator)
            if options.lifecycles:
                await _at_rest(operator, time.monotonic())
                before = _writes(made, options)
                async with connection.session() as session:
                    whole = Lifecycles(connection, session, made.namespace)
                    rate = await whole.per_second(options.lifecycles)
                result["created_to_succeeded_per_second"] = round(rate, 1)
                await _at_rest(operator, time.monotonic())
                result["writes_for_a_life"] = {
                    name: round(count - before.get(name, 0), 2) for name, count in _writes(made, options).items()
                }
    return result


def _writes(made: Generator, options: argparse.Namespace) -> dict[str, float]:
    """Writes so far, for each of the jobs that go all the way."""
    return writes_of(options.audit_log, made.namespace, options.lifecycles) if options.audit_log else {}


async def _idle(operator: OperatorProcess, seconds: int) -> Result:
    """What the operator does when nothing happens."""
    writes, cpu = operator.writes(), operator.cpu_seconds()
    await asyncio.sleep(seconds)
    after = operator.writes()
    return {
        "seconds": seconds,
        "writes": sum(after.values()) - sum(writes.values()),
        "cpu_percent_of_a_core": round(100 * (operator.cpu_seconds() - cpu) / seconds, 1),
    }


async def _restart(made: Generator, operator: OperatorProcess) -> Result:
    """Kill -9 at rest and start again: how long until everything was looked at, and until a new object is served."""
    operator.kill()
    started = time.monotonic()
    operator.start()
    await made.create_at("after-restart", started)
    ready = await asyncio.to_thread(operator.wait_ready)
    await made.until_seen(["after-restart"], within=60)
    served = made.timeline.seen["Job"]["after-restart"] - started
    converged = await _at_rest(operator, started)
    return {
        "ready_seconds": round(ready, 2),
        "new_object_served_seconds": round(served, 2),
        "converged_seconds": round(converged, 2),
        "writes_by_then": operator.writes(),
        "memory_mib": operator.memory_mib()[0],
    }


async def _at_rest(operator: OperatorProcess, started: float) -> float:
    """Seconds from `started` until nothing waited for a worker and nothing was written any more, for two seconds."""
    quiet_since, writes = None, -1
    while True:
        settled, now = (
            await asyncio.to_thread(operator.settled),
            sum((await asyncio.to_thread(operator.writes)).values()),
        )
        if not settled or now != writes:
            quiet_since, writes = None, now
        elif quiet_since is None:
            quiet_since = time.monotonic()
        elif time.monotonic() - quiet_since > 2:
            return quiet_since - started
        await asyncio.sleep(0.1)
