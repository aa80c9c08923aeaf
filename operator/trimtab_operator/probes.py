"""Whether the operator is alive and ready, and its metrics, over plain HTTP."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from trimtab_operator import metrics
from trimtab_operator.api.times import parse_time
from trimtab_operator.cluster import trim
from trimtab_operator.cluster.store import Store
from trimtab_operator.reconcile.queue import Queue

_TICK_SECONDS = 1.0
_MAX_WATCH_AGE = 420.0
"""A watch asks for more at least every 240 s; beyond this its watcher is stuck."""
_MAX_QUEUE_AGE = 300.0
_MAX_LOOP_LAG = 20.0
_MAX_LEASE_AGE = 30.0


@dataclass(frozen=True, slots=True)
class Vitals:
    """What the probes look at."""

    watch_ages: Callable[[], Mapping[str, float]]
    watching: Callable[[], bool]
    synced: Callable[[], bool]
    leading: Callable[[], bool]
    lease_age: Callable[[], float]
    queue: Queue
    store: Store


class Probes:
    """`/healthz`, `/readyz` and `/metrics`."""

    def __init__(self, vitals: Vitals) -> None:
        self._vitals = vitals
        self._lag = 0.0

    def problems(self) -> list[str]:
        """What is wrong with this process; a restart is hoped to heal it."""
        vitals = self._vitals
        found = [
            f"watch of {kind} is silent for {age:.0f} s"
            for kind, age in vitals.watch_ages().items()
            if age > _MAX_WATCH_AGE
        ]
        if not vitals.watching():
            found.append("the watching thread has ended")
        if vitals.leading() and vitals.queue.oldest_seconds() > _MAX_QUEUE_AGE:
            found.append(f"the first key of the queue waits for {vitals.queue.oldest_seconds():.0f} s")
        if self._lag > _MAX_LOOP_LAG:
            found.append(f"the event loop is {self._lag:.0f} s late")
        if vitals.lease_age() > _MAX_LEASE_AGE:
            found.append(f"the Lease was not renewed for {vitals.lease_age():.0f} s")
        return found

    async def tick(self) -> None:
        """Measure how late the event loop is, for ever."""
        while True:
            before = time.monotonic()
            await asyncio.sleep(_TICK_SECONDS)
            self._lag = max(0.0, time.monotonic() - before - _TICK_SECONDS)
            metrics.LOOP_LAG_SECONDS.set(self._lag)

    def probes(self) -> web.Application:
        """The probes' application."""
        application = web.Application()
        application.router.add_get("/healthz", self._healthz)
        application.router.add_get("/readyz", self._readyz)
        return application

    def metrics(self) -> web.Application:
        """The metrics' application."""
        application = web.Application()
        application.router.add_get("/metrics", self._metrics)
        return application

    async def _healthz(self, _: web.Request) -> web.Response:
        problems = self.problems()
        return web.Response(status=503 if problems else 200, text="\n".join(problems) or "ok")

    async def _readyz(self, _: web.Request) -> web.Response:
        # A standby is ready too: it passes the trainers' reports on to the leader.
        ready = self._vitals.synced()
        return web.Response(status=200 if ready else 503, text="ok" if ready else "the first list is not complete")

    async def _metrics(self, _: web.Request) -> web.Response:
        self._collect()
        body = await asyncio.to_thread(generate_latest, metrics.REGISTRY)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    def _collect(self) -> None:
        vitals = self._vitals
        metrics.QUEUE_DEPTH.set(len(vitals.queue))
        metrics.QUEUE_OLDEST_SECONDS.set(vitals.queue.oldest_seconds())
        for kind, age in vitals.watch_ages().items():
            metrics.WATCH_AGE_SECONDS.labels(kind).set(age)
        states: Counter[tuple[str, str]] = Counter()
        oldest: dict[str, float] = {}
        for stored in vitals.store.all("FineTuneJob"):
            for term in stored.terms:
                if term.startswith(trim.STATE):
                    states[stored.namespace, term.removeprefix(trim.STATE)] += 1
                elif term.startswith(trim.CHECKPOINT):
                    age = _age(term.removeprefix(trim.CHECKPOINT))
                    oldest[stored.namespace] = max(age, oldest.get(stored.namespace, 0.0))
        metrics.JOBS.clear()
        for (namespace, state), count in states.items():
            metrics.JOBS.labels(namespace, state).set(count)
        metrics.CHECKPOINT_AGE_SECONDS.clear()
        for namespace, age in oldest.items():
            metrics.CHECKPOINT_AGE_SECONDS.labels(namespace).set(age)


def _age(time_text: str) -> float:
    try:
        return max(0.0, (datetime.now(UTC) - parse_time(time_text)).total_seconds())
    except ValueError:
        return 0.0
