"""One turn of one controller: it runs alone, takes a steady load, then a burst, and everything is removed again."""

import argparse
import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from audit import way_of, writes_of
from contenders import Contender
from load import Generator
from tests.support.local_process import cpu_seconds

from trimtab_operator.cluster.connection import Connection

Result = dict[str, Any]
_WARM_UP = 20
_CALM = 0.05
"""Share of a core below which a controller has nothing left to do."""
_CALM_SERVER = 0.15
"""Likewise of the API server, with its leases and watches."""
_LOOK_SECONDS = 1.5


@asynccontextmanager
async def generator(connection: Connection, contender: Contender) -> AsyncIterator[Generator]:
    """A namespace with a generator that watches it. At the end the namespace is gone, and all that was in it."""
    namespace = f"bench-{uuid.uuid4().hex[:6]}"
    url = f"{connection.server}/api/v1/namespaces"
    async with connection.session() as session:
        async with session.post(url, json={"metadata": {"name": namespace}}) as response:
            assert response.status == 201, await response.text()
        made = Generator(connection, session, contender.work, namespace)
        watching = asyncio.create_task(made.watch())
        try:
            yield made
        finally:
            watching.cancel()
            await _remove(session, f"{url}/{namespace}")


async def _remove(session: Any, url: str) -> None:
    async with session.delete(url) as response:
        await response.read()
    for _ in range(600):
        async with session.get(url) as response:
            if response.status == 404:
                return
        await asyncio.sleep(0.2)


async def turn(
    connection: Connection, contender: Contender, options: argparse.Namespace, api_server: int | None
) -> Result:
    """Warm up, steady load, burst. `api_server` is its process id, where it is ours to look at."""
    if api_server is not None:
        # After CRDs were installed or thousands of objects removed it has seconds of work of its own.
        await calm(partial(cpu_seconds, api_server), share=_CALM_SERVER, within=120)
    async with generator(connection, contender) as made:
        with contender.start(options.log) as process:
            await asyncio.to_thread(process.wait_ready)
            result: Result = {"memory_mib_empty": process.memory_mib()[0]}
            await made.until_seen(await made.create("warm", _WARM_UP, per_second=10), within=60)
            await calm(process.cpu_seconds)
            names = await made.create("steady", options.rate * options.seconds, per_second=options.rate)
            await made.until_seen(names, within=60)
            result["steady_ms"] = {kind: made.timeline.latencies("steady", kind) for kind in contender.work.children}
            await calm(process.cpu_seconds)
            before = process.cpu_seconds(), cpu_seconds(api_server) if api_server else 0.0
            await made.until_seen(await made.create("burst", options.burst), within=120 + options.burst / 5)
            result["burst_per_second"] = {kind: made.timeline.rate("burst", kind) for kind in contender.work.children}
            await calm(process.cpu_seconds)
            after = process.cpu_seconds(), cpu_seconds(api_server) if api_server else 0.0
            cpu = [1000 * (end - begin) / options.burst for begin, end in zip(before, after, strict=True)]
            result["burst_cpu_ms_per_object"] = cpu[0]
            result["burst_api_server_cpu_ms_per_object"] = cpu[1]
            result["memory_mib"] = process.memory_mib()[0]
    if options.audit_log:
        result["way"] = way_of(options.audit_log, made.namespace, "steady")
        result["writes"] = writes_of(options.audit_log, made.namespace, len(made.timeline.sent))
    return result


async def calm(cpu: Callable[[], float], *, share: float = _CALM, within: float = 60) -> None:
    """Wait until a process has done all that follows from what was created. `cpu` is its processor time so far, in seconds."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        before = cpu()
        await asyncio.sleep(_LOOK_SECONDS)
        if cpu() - before < share * _LOOK_SECONDS:
            return
