"""An open-loop generator: objects at given times, whatever becomes of them; and when what is made from them was seen."""

import asyncio
import time
from collections.abc import Callable, Mapping
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
    children: Mapping[str, str]
    """Likewise of the kinds that are waited for, by name of the kind. Their owner has the name of the created object."""
    manifest: Callable[[str, str], Manifest]
    """The object of a namespace and a name."""


@dataclass(slots=True)
class Timeline:
    """When things happened, by name of the created object; seconds of a monotonic clock."""

    sent: dict[str, float] = field(default_factory=dict)
    accepted: dict[str, float] = field(default_factory=dict)
    seen: dict[str, dict[str, float]] = field(default_factory=dict)
    """By kind of the child."""

    def latencies(self, prefix: str, kind: str) -> list[float]:
        """Accepted to child of a kind seen, in milliseconds, sorted."""
        seen = self.seen[kind]
        return sorted(
            1000 * max(0.0, seen[name] - accepted)
            for name, accepted in self.accepted.items()
            if name.startswith(prefix) and name in seen
        )

    def rate(self, prefix: str, kind: str) -> float:
        """Objects a second, from the first one sent to the last child of a kind seen."""
        seen = [at for name, at in self.seen[kind].items() if name.startswith(prefix)]
        first = min(at for name, at in self.sent.items() if name.startswith(prefix))
        return len(seen) / (max(seen) - first)


class Generator:
    """Creates objects of one kind in one namespace, and watches for what is made from them."""

    def __init__(self, connection: Connection, session: aiohttp.ClientSession, work: Work, namespace: str) -> None:
        self.namespace = namespace
        self.timeline = Timeline(seen={kind: {} for kind in work.children})
        self._server = connection.server
        self._session = session
        self._work = work

    async def watch(self) -> None:
        """Note when each object's children are first seen; for ever."""
        await asyncio.gather(*(self._watch(kind, self._url(path)) for kind, path in self._work.children.items()))

    async def _watch(self, kind: str, url: str) -> None:
        async with self._session.get(url, params={"limit": "1"}) as response:
            version = (await response.json())["metadata"]["resourceVersion"]
        while True:
            params = {"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": version}
            no_limit = aiohttp.ClientTimeout(total=None)
            async with self._session.get(url, params=params, timeout=no_limit) as response:
                async for line in response.content:
                    now = time.monotonic()
                    event = orjson.loads(line)
                    metadata = event["object"]["metadata"]
                    version = metadata["resourceVersion"]
                    if event["type"] == "ADDED":
                        owner = next((owner["name"] for owner in metadata.get("ownerReferences") or ()), "")
                        self.timeline.seen[kind].setdefault(owner, now)

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
            self._url(self._work.created), data=body, headers={"Content-Type": "application/json"}
        ) as response:
            answer = await response.read()
            assert response.status == 201, answer[:1000]
        self.timeline.accepted[name] = time.monotonic()

    async def until_seen(self, names: list[str], *, within: float) -> None:
        """Wait until every one of these has all its children."""
        deadline = time.monotonic() + within
        while missing := [name for name in names if any(name not in seen for seen in self.timeline.seen.values())]:
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"{len(missing)} of {len(names)} objects led to nothing in {within:.0f} s, the first is {missing[0]}"
                )
            await asyncio.sleep(0.05)

    def _url(self, path: str) -> str:
        return self._server + f"/namespaces/{self.namespace}/".join(path.rsplit("/", 1))
