"""Kopf's only home. It watches; nothing is decided here."""

import asyncio
import random
from collections.abc import Iterator
from typing import Any

import kopf

from trimtab_operator import metrics
from trimtab_operator.cluster.connection import Connection
from trimtab_operator.cluster.resources import WATCHED
from trimtab_operator.cluster.trim import Stored
from trimtab_operator.echoes import without_echoes
from trimtab_operator.intake import Activity, Change, Receiver
from trimtab_operator.settings import Settings

_SERVER_TIMEOUT = 240
"""Seconds after which the server ends a watch. A watch that asked for nothing for longer than this is dead."""


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


async def watch(
    *, connection: Connection, settings: Settings, receiver: Receiver, activity: Activity, stop: asyncio.Event
) -> None:
    """Run Kopf until `stop` is set or it fails.

    `stop` must be an event of this loop: for a threading.Event Kopf waits in a thread that nothing can cancel.
    """
    await kopf.operator(
        registry=_registry(receiver, connection, activity),
        settings=_settings(),
        # Kopf would ask for the user's name, which a container without a passwd entry does not have. Its type is a
        # NewType of str that Kopf does not export.
        identity=settings.identity,  # type: ignore[arg-type]
        standalone=True,
        clusterwide=not settings.watch_namespaces,
        namespaces=settings.watch_namespaces,
        stop_flag=stop,
    )


def _registry(receiver: Receiver, connection: Connection, activity: Activity) -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()

    def is_known(kind: str, uid: str, version: int) -> bool:
        activity.touch(kind)
        return receiver.known(uid, version)

    @kopf.on.login(registry=registry)
    async def log_in(**_: object) -> kopf.AiohttpSession:
        activity.session = connection.session(seen=activity.request, connections=0, responses=without_echoes(is_known))
        return kopf.AiohttpSession(
            server=connection.server, default_namespace=connection.namespace, aiohttp_session=activity.session
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
