"""An open-loop generator: objects at given times, whatever becomes of them; and when what is made from them was seen."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson

from trimtab_operator.cluster.connection import Connection

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Work:
    """What is created, and what a controller makes from it."""

    created: str
    """API path of the kind, without its namespace: `/apis/GROUP/VERSION` and plural."""
    child: str
    """Likewise of the kind that is waited for; its objects are owned by the created ones."""
    manifest: Callable[[str, str], Manifest]
    """The object of a namespace and a name."""


@dataclass(slots=True)
class Timeline:
    """When things happened, by name of the created object; seconds of a monotonic clock."""

    sent: dict[str, float] = field(default_factory=dict)
    accepted: dict[str, float] = field(default_factory=dict)
    child_seen: dict[str, float] = field(default_factory=dict)

    def latencies(self, prefix: str) -> list[float]:
        """Accepted to child seen, in milliseconds, sorted."""
        return sorted(
            1000 * max(0.0, self.child_seen[name] - accepted)
            for name, accepted in self.accepted.items()
            if name.startswith(prefix) and name in self.child_seen
        )

    def rate(self, prefix: str) -> float:
        """Objects a second, from the first one sent to the last child seen."""
        seen = [at for name, at in self.child_seen.items() if name.startswith(prefix)]
        first = min(at for name, at in self.sent.items() if name.startswith(prefix))
        return len(seen) / (max(seen) - first)


class Generator:
    """Creates objects of one kind in one namespace, and watches for what is made from them."""

    def __init__(self, connection: Connection, session: aiohttp.ClientSession, work: Work, namespace: str) -> None:
        self.namespace = namespace
        self.timeline = Timeline()
        self._session = session
        self._work = work
        self._created, self._child = (
            connection.server + f"/namespaces/{namespace}/".join(path.rsplit("/", 1))
            for path in (work.created, work.child)
        )

    async def watch(self) -> None:
        """Note when each object's child is first seen; for ever."""
        async with self._session.get(self._child, params={"limit": "1"}) as response:
            version = (await response.json())["metadata"]["resourceVersion"]
        while True:
            params = {"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": version}
            no_limit = aiohttp.ClientTimeout(total=None)
            async with self._session.get(self._child, params=params, timeout=no_limit) as response:
                async for line in response.content:
                    now = time.monotonic()
                    event = orjson.loads(line)
                    metadata = event["object"]["metadata"]
                    version = metadata["resourceVersion"]
                    if event["type"] == "ADDED":
                        owner = next((owner["name"] for owner in metadata.get("ownerReferences") or ()), "")
                        self.timeline.child_seen.setdefault(owner, now)

    async def create(self, prefix: str, count: int, *, per_second: float | None = None) -> list[str]:
        """Create so many objects, at a rate or all at once, however busy everything is. Returns their names."""
        names = [f"{prefix}-{index:05d}" for index in range(count)]
        begin = time.monotonic() + (0.5 if per_second else 0)
        pause = 1 / per_second if per_second else 0
        await asyncio.gather(*(self.create_at(name, begin + index * pause) for index, name in enumerate(names)))
        return names

    async def create_at(self, name: str, at: float) -> None:
        """Create one object at its time."""
        await asyncio.sleep(max(0.0, at - time.monotonic()))
        body = orjson.dumps(self._work.manifest(self.namespace, name))
        self.timeline.sent[name] = time.monotonic()
        async with self._session.post(
            self._created, data=body, headers={"Content-Type": "application/json"}
        ) as response:
            answer = await response.read()
            assert response.status == 201, answer[:1000]
        self.timeline.accepted[name] = time.monotonic()

    async def until_seen(self, names: list[str], *, within: float) -> None:
        """Wait until every one of these has its child."""
        deadline = time.monotonic() + within
        while missing := [name for name in names if name not in self.timeline.child_seen]:
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"{len(missing)} of {len(names)} objects led to nothing in {within:.0f} s, the first is {missing[0]}"
                )
            await asyncio.sleep(0.05)
