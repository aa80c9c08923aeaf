"""Keeps the echoes of our own writes from Kopf.

A watch brings every write back, and mostly the Store has learned it from the write's answer already. To find that out Kopf takes a
task, three loggers and half a millisecond for each, the largest part of the operator's work in a burst. So what the Store knows
is left out of the stream that Kopf reads; all else goes through as it came.
"""

from collections.abc import AsyncIterator, Callable
from typing import Any, Self

import aiohttp
import orjson

from trimtab_operator import metrics

Known = Callable[[str, str, int], bool]
"""Whether an object of this kind and uid is known at this version or a newer one."""


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
            fresh = [line for line in lines if not is_echo(line, self._known)]
            if fresh:
                yield b"\n".join((*fresh, b""))
        if rest:
            yield rest


def is_echo(line: bytes, known: Known) -> bool:
    """Whether an event says that an object is as it is known to be. Deletions, bookmarks and errors never do."""
    try:
        event = orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    if event.get("type") not in ("ADDED", "MODIFIED"):
        return False
    body = event["object"]
    metadata = body["metadata"]
    if not known(body["kind"], metadata["uid"], int(metadata["resourceVersion"])):
        return False
    metrics.EVENTS_RECEIVED.labels(body["kind"]).inc()
    metrics.EVENTS_STALE.labels(body["kind"]).inc()
    return True
