"""Keeps the echoes of our own writes from Kopf.

A watch brings every write back, and the Store learns it from the write's answer. To find that out Kopf takes a task, three loggers
and a millisecond for each, the largest part of the operator's work in a burst. So what the Store knows is left out of the stream
that Kopf reads; all else goes through as it came.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Self

import aiohttp
import orjson

from trimtab_operator import metrics
from trimtab_operator.cluster.resources import OUR_KINDS

Known = Callable[[str, str, int], bool]
"""Whether an object of this kind and uid is known at this version or a newer one."""
_ANSWER_SECONDS = 0.02
"""The event of a write and its answer come at the same time, by two connections and to two threads: the answer gets a start."""


def without_echoes(known: Known) -> type[aiohttp.ClientResponse]:
    """The responses of a session whose watches leave out what is known."""

    class Response(aiohttp.ClientResponse):
        async def start(self, connection: Any) -> Self:
            await super().start(connection)
            if self.url.query.get("watch") == "true":
                # What of a stream Kopf uses.
                self.content: Any = _Fresh(self.content, known)
            return self

    return Response


class _Fresh:
    """A stream of watch events, line by line, without those that say nothing new."""

    def __init__(self, content: aiohttp.StreamReader, known: Known) -> None:
        self._content = content
        self._known = known

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        """Whole lines, as many as came at once."""
        rest = b""
        async for chunk in self._content.iter_chunked(size):
            *lines, rest = (rest + chunk).split(b"\n")
            events = [(line, _parsed(line)) for line in lines]
            if not any(is_urgent(event) for _, event in events):
                await until_answered()
            fresh = [line for line, event in events if not is_echo(event, self._known)]
            if fresh:
                yield b"\n".join((*fresh, b""))
        if rest:
            yield rest


async def until_answered() -> None:
    """Let the answer to a write be taken in before its event."""
    await asyncio.sleep(_ANSWER_SECONDS)


def is_urgent(event: Any) -> bool:
    """Whether somebody waits for what an event begins: a new object of ours. All that goes on takes longer than a moment."""
    return event.get("type") == "ADDED" and event["object"]["kind"] in OUR_KINDS


def is_echo(event: Any, known: Known) -> bool:
    """Whether an event says that an object is as it is known to be. Deletions, bookmarks and errors never do."""
    if event.get("type") not in ("ADDED", "MODIFIED"):
        return False
    kind, metadata = event["object"]["kind"], event["object"]["metadata"]
    if not known(kind, metadata["uid"], int(metadata["resourceVersion"])):
        return False
    metrics.EVENTS_RECEIVED.labels(kind).inc()
    metrics.EVENTS_STALE.labels(kind).inc()
    return True


def _parsed(line: bytes) -> Any:
    """An event; nothing of what is none, which is Kopf's to judge."""
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return {}
