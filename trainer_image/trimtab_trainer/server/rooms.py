"""What the endpoints of the built-in server share: the engine, and a limited number of places."""

import asyncio
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from trimtab_trainer.server.engine import Engine
from trimtab_trainer.server.exchange import leased
from trimtab_trainer.server.front import Front
from trimtab_trainer.server.metrics import Metrics
from trimtab_trainer.server.openai_api import ApiError
from trimtab_trainer.server.target import Target
from trimtab_trainer.server.versions import Versions

MEDIA_AT_ONCE = 8
"""Requests with images or recordings whose bytes are in memory; others wait before their bodies are read."""


class Rooms:
    """What the endpoints share. Belongs to the event loop."""

    def __init__(self, engine: Engine, versions: Versions[Target], metrics: Metrics, front: Front) -> None:
        self.engine, self.versions, self.metrics, self.front = engine, versions, metrics, front
        self.open_requests = 0
        self.media = asyncio.Semaphore(MEDIA_AT_ONCE)
        """Of requests with images or recordings, which are many times larger than texts."""

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place in the batch or in the queue for it.

        Raises:
            ApiError: 429 when both are full.
        """
        config = self.versions.config
        if self.open_requests >= config.max_concurrent_requests + config.max_waiting_requests:
            raise ApiError(
                429,
                f"{self.open_requests} requests are open already; try again.",
                code="rate_limit_exceeded",
                retry_after=1,
            )
        self.open_requests += 1
        try:
            yield
        finally:
            self.open_requests -= 1

    def lease(self, model: str, user: str | None) -> AbstractContextManager[Target]:
        """The target of a request, as long as the block runs."""
        return leased(self.versions, model, user)
