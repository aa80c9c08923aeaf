"""Posts Kubernetes Events. A lost Event is no loss: nothing here may hold up or fail a reconcile."""

import asyncio
import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from trimtab_operator import metrics, names
from trimtab_operator.cluster.client import Client
from trimtab_operator.errors import AlreadyExistsError, NotFoundError, OperatorError
from trimtab_operator.state import EventNote, Manifest, ObjectRef

_LOG = logging.getLogger(__name__)
_QUIET_SECONDS = 10.0
"""At most one write per object and reason in this time; what comes in between is counted."""
_REMEMBERED = 4096
_WAITING = 1000
_YIELD_SECONDS = 15.0
"""How long an Event lets reconciles go first. In a burst the API server's time belongs to Jobs."""


@dataclass(slots=True)
class _Series:
    """What was posted about one object for one reason."""

    posted_at: float
    count: int
    note: EventNote


class EventWriter:
    """Takes notes at once, posts them in the background."""

    def __init__(self, client: Client, *, instance: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._instance = instance
        self._clock = clock
        self._series: OrderedDict[tuple[str, str], _Series] = OrderedDict()
        self.busy: Callable[[], bool] = lambda: False
        """Whether there is more urgent work."""
        self._waiting: asyncio.Queue[tuple[ObjectRef, EventNote, int]] = asyncio.Queue(_WAITING)

    def post(self, ref: ObjectRef, note: EventNote) -> None:
        """Take a note. Repetitions within ten seconds only count."""
        key = (ref.uid, note.reason)
        now = self._clock()
        series = self._series.setdefault(key, _Series(posted_at=-_QUIET_SECONDS, count=0, note=note))
        self._series.move_to_end(key)
        if len(self._series) > _REMEMBERED:
            self._series.popitem(last=False)
        series.count = series.count + 1 if series.note == note else 1
        repeated, series.note = series.note == note, note
        if now - series.posted_at < _QUIET_SECONDS and repeated:
            metrics.KUBERNETES_EVENTS.labels("aggregated").inc()
            return
        series.posted_at = now
        try:
            self._waiting.put_nowait((ref, note, series.count))
        except asyncio.QueueFull:
            metrics.KUBERNETES_EVENTS.labels("dropped").inc()

    async def run(self) -> None:
        """Post what was noted, for ever."""
        while True:
            ref, note, count = await self._waiting.get()
            await self._let_others_go_first()
            try:
                await self._write(ref, note, count)
            except OperatorError as error:
                metrics.KUBERNETES_EVENTS.labels("failed").inc()
                _LOG.warning(
                    "event_lost kind=%s namespace=%s name=%s reason=%s error=%s", *ref[1:4], note.reason, error
                )
            else:
                metrics.KUBERNETES_EVENTS.labels("posted").inc()
            self._waiting.task_done()

    async def drain(self) -> None:
        """Wait until everything noted was tried."""
        await self._waiting.join()

    async def _let_others_go_first(self) -> None:
        until = self._clock() + _YIELD_SECONDS
        while self.busy() and self._clock() < until and not self._waiting.full():  # noqa: ASYNC110 - a queue's depth is no event
            await asyncio.sleep(0.05)

    async def _write(self, ref: ObjectRef, note: EventNote, count: int) -> None:
        event = _event(ref, note, self._instance)
        if count == 1:
            try:
                await self._client.create(event)
            except AlreadyExistsError:
                count = 2
            else:
                return
        metadata = event["metadata"]
        target = ObjectRef("v1", "Event", metadata["namespace"], metadata["name"], "")
        changes = [
            {"op": "replace", "path": "/count", "value": count},
            {"op": "replace", "path": "/lastTimestamp", "value": event["lastTimestamp"]},
        ]
        try:
            await self._client.patch(target, changes)
        except NotFoundError:
            await self._client.create({**event, "count": count})


def _event(ref: ObjectRef, note: EventNote, instance: str) -> Manifest:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    digest = hashlib.sha256(f"{ref.uid}|{note.reason}|{note.message}".encode()).hexdigest()[:16]
    namespace = ref.namespace or "default"
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{ref.name[:200].rstrip('-.')}.{digest}", "namespace": namespace},
        "involvedObject": {
            "apiVersion": ref.api_version,
            "kind": ref.kind,
            "namespace": ref.namespace,
            "name": ref.name,
            "uid": ref.uid,
            "resourceVersion": ref.resource_version,
        },
        "type": note.type,
        "reason": note.reason,
        "message": note.message[:1024],
        "source": {"component": names.FIELD_MANAGER},
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
        "reportingComponent": names.MANAGED_BY,
        "reportingInstance": instance,
    }
