"""Kopf's only home. It watches; nothing is decided here.

Kopf runs in a thread with an event loop of its own, because at its end it cancels every task of its loop: the Store, the queue
and the workers must live through its restarts. An ERROR in a watch stream ends Kopf; it is back within a second.
"""

import asyncio
import contextlib
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import kopf

from trimtab_operator import metrics
from trimtab_operator.cluster.connection import Connection
from trimtab_operator.cluster.resources import WATCHED
from trimtab_operator.cluster.trim import Stored
from trimtab_operator.settings import Settings

_LOG = logging.getLogger(__name__)
_SERVER_TIMEOUT = 240
"""Seconds after which the server ends a watch. A watch that asked for nothing for longer than this is dead."""
Change = Literal["listed", "changed", "deleted"]


class Receiver(Protocol):
    """Where events go. Called in Kopf's thread."""

    def known(self, uid: str, version: int) -> bool:
        """Whether the Store has this version or a newer one: most echoes of our own writes."""
        ...

    def receive(self, change: Change, stored: Stored) -> None:
        """Take an event."""
        ...


class _NoDiffBase(kopf.DiffBaseStorage):
    """We compare nothing with the last handled state; building it costs four fifths of an event's time."""

    def build(self, **_: Any) -> Any:
        return {}

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        pass


class _NoProgress(kopf.ProgressStorage):
    """Event handlers have no progress to keep."""

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        pass

    def purge(self, **_: Any) -> None:
        pass

    def touch(self, **_: Any) -> None:
        pass

    def clear(self, *, essence: Any) -> Any:
        return essence


class _Backoffs:
    """Endless: an API server that is away for an hour is no reason to give up."""

    def __iter__(self) -> Iterator[float]:
        seconds = 0.5
        while True:
            yield seconds * (0.75 + 0.5 * random.random())  # noqa: S311 - no secret
            seconds = min(seconds * 1.6, 15.0)


@dataclass(slots=True)
class Activity:
    """When each watch last showed a sign of life. Written by Kopf's thread, read by the probes."""

    seen: dict[str, float] = field(default_factory=dict)

    def touch(self, kind: str) -> None:
        """An event came, or a request for more was sent."""
        self.seen[kind] = time.monotonic()

    def request(self, method: str, path: str) -> None:
        """A request of Kopf: a list or a watch proves that its watcher lives."""
        if method == "GET":
            collection = path.partition("?")[0].rpartition("/")[2]
            for resource in WATCHED:
                if resource.plural == collection:
                    self.touch(resource.kind)

    def ages(self) -> dict[str, float]:
        """Seconds since the last sign of life, by kind."""
        now = time.monotonic()
        return {kind: now - at for kind, at in list(self.seen.items())}


class Watches:
    """Kopf in its thread, restarted whenever it ends."""

    def __init__(self, connection: Connection, settings: Settings, receiver: Receiver) -> None:
        self.activity = Activity()
        self._connection = connection
        self._settings = settings
        self._receiver = receiver
        self._stopping = threading.Event()
        self._end_run: Callable[[], object] = lambda: None
        """Ends the present run of Kopf."""
        self._thread = threading.Thread(target=self._run, name="kopf", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def restart(self) -> None:
        """End this run of Kopf; the next one lists everything anew."""
        self._end_run()

    def stop(self, timeout: float = 3.0) -> None:
        """End for good."""
        self._stopping.set()
        self._end_run()
        self._thread.join(timeout)

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping.is_set():
            for resource in WATCHED:
                self.activity.touch(resource.kind)
            started = time.monotonic()
            try:
                asyncio.run(self._operate())
            except Exception as error:  # noqa: BLE001 - whatever ended Kopf, it must come back
                _LOG.warning("watches_ended error=%r", f"{type(error).__name__}: {error}"[:500])
            if self._stopping.is_set():
                return
            metrics.WATCH_RESTARTS.inc()
            # At once after a good run; with a pause where Kopf cannot even start.
            pause = 0.1 if time.monotonic() - started > 5 else 1.0  # noqa: PLR2004 - seconds
            _LOG.info("watches_restarting pause_seconds=%.1f", pause)
            self._stopping.wait(pause)

    async def _operate(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_note)
        # A threading.Event would do, but Kopf waits for it in a thread that nothing can cancel: its own end would hang there.
        flag = asyncio.Event()
        self._end_run = lambda: _call(loop, flag.set)
        if self._stopping.is_set():
            return
        namespaces = self._settings.watch_namespaces
        await kopf.operator(
            registry=_registry(self._receiver, self._connection, self.activity),
            settings=_settings(),
            # Kopf would ask for the user's name, which a container without a passwd entry does not have. Its type is a
            # NewType of str that Kopf does not export.
            identity=self._settings.identity,  # type: ignore[arg-type]
            standalone=True,
            clusterwide=not namespaces,
            namespaces=namespaces,
            stop_flag=flag,
        )


def _call(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    """Call in another thread's loop, if that still runs."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(function)


def _note(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Watchers that fail together with the one that ended Kopf: one line is said about all of them."""
    _LOG.debug("watcher_failed error=%r", context.get("exception") or context.get("message"))


def _registry(receiver: Receiver, connection: Connection, activity: Activity) -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    async def log_in(**_: object) -> kopf.AiohttpSession:
        return kopf.AiohttpSession(
            server=connection.server,
            default_namespace=connection.namespace,
            aiohttp_session=connection.session(seen=activity.request, connections=0),
        )

    async def changed(event: kopf.RawEvent, **_: object) -> None:
        body: Any = event["object"]
        activity.touch(body["kind"])
        metrics.EVENTS_RECEIVED.labels(body["kind"]).inc()
        # A type of None is Kopf's mark for an object of a list: at the start, and when it had to list again.
        change: Change = "listed" if event["type"] is None else "deleted" if event["type"] == "DELETED" else "changed"
        if change == "changed" and receiver.known(body["metadata"]["uid"], int(body["metadata"]["resourceVersion"])):
            metrics.EVENTS_STALE.labels(body["kind"]).inc()
        else:
            receiver.receive(change, Stored.of(body))

    for resource in WATCHED:
        selector = (
            (resource.group, resource.version, resource.plural)
            if resource.group
            else (resource.version, resource.plural)
        )
        kopf.on.event(*selector, id=resource.plural, registry=registry)(changed)
    return registry


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.persistence.diffbase_storage = _NoDiffBase()
    settings.persistence.progress_storage = _NoProgress()
    # A worker per object that is idle at once: a limit would count idle workers too, and deadlocks with many objects.
    settings.queueing.idle_timeout = 0.1
    settings.queueing.exit_timeout = 0.2
    settings.watching.server_timeout = _SERVER_TIMEOUT
    settings.watching.inactivity_timeout = 70
    settings.watching.chunk_size = 100
    for resource in WATCHED:
        if resource.selector:
            key = (
                (resource.group, resource.version, resource.plural)
                if resource.group
                else (resource.version, resource.plural)
            )
            settings.watching.label_selectors[key] = resource.selector
    settings.networking.request_timeout = 20
    settings.networking.connect_timeout = 5
    settings.networking.error_backoffs = _Backoffs()
    settings.networking.enforce_retry_after = True
    settings.scanning.disabled = True
    return settings
