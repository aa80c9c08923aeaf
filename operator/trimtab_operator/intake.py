"""The way of a watch event from Kopf's thread to the Store's event loop, and the watches' signs of life."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

import aiohttp

from trimtab_operator.cluster.resources import WATCHED
from trimtab_operator.cluster.store import Store
from trimtab_operator.cluster.trim import Stored

Change = Literal["listed", "changed", "deleted"]
_BATCH = 200
"""Watch events taken at once before the loop gets its turn."""


class Receiver(Protocol):
    """Where events go. Called in Kopf's thread."""

    def known(self, uid: str, version: int) -> bool:
        """Whether the Store has this version or a newer one: most echoes of our own writes."""
        ...

    def receive(self, change: Change, stored: Stored) -> None:
        """Take an event."""
        ...


class Intake:
    """Hands events over, in batches."""

    def __init__(
        self, store: Store, watched: Callable[[Change, Stored], None], loop: asyncio.AbstractEventLoop
    ) -> None:
        self._store = store
        self._watched = watched
        self._loop = loop
        self._events: deque[tuple[Change, Stored]] = deque()
        self._scheduled = False

    def known(self, uid: str, version: int) -> bool:
        """Whether the Store is as new. A look at one dictionary is safe from any thread."""
        stored = self._store.by_uid(uid)
        return stored is not None and stored.version >= version

    def receive(self, change: Change, stored: Stored) -> None:
        """Take an event; called in Kopf's thread."""
        self._events.append((change, stored))
        if not self._scheduled:
            self._scheduled = True
            with contextlib.suppress(RuntimeError):  # the loop is closed: the process ends
                self._loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        self._scheduled = False
        for _ in range(_BATCH):
            if not self._events:
                return
            self._watched(*self._events.popleft())
        self._scheduled = True
        self._loop.call_soon(self._drain)


@dataclass(slots=True)
class Activity:
    """When each watch last showed a sign of life. Written by Kopf's thread, read by the probes."""

    seen: dict[str, float] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)
    """Kinds that this run of Kopf has listed or watched."""
    session: aiohttp.ClientSession | None = None
    """The session that Kopf uses. Kopf closes it when it ends."""

    def touch(self, kind: str) -> None:
        """An event came, or a request for more was sent."""
        self.seen[kind] = time.monotonic()

    def begin(self) -> None:
        """All watches begin anew."""
        self.session = None
        self.asked.clear()
        for resource in WATCHED:
            self.touch(resource.kind)

    def request(self, method: str, path: str) -> None:
        """A request of Kopf: a list or a watch proves that its watcher lives."""
        if method == "GET":
            collection = path.partition("?")[0].rpartition("/")[2]
            for resource in WATCHED:
                if resource.plural == collection:
                    self.asked.add(resource.kind)
                    self.touch(resource.kind)

    def overlooked(self) -> list[str]:
        """Kinds that nobody has asked for."""
        return [resource.kind for resource in WATCHED if resource.kind not in self.asked]

    def ages(self) -> dict[str, float]:
        """Seconds since the last sign of life, by kind."""
        now = time.monotonic()
        return {kind: now - at for kind, at in list(self.seen.items())}
