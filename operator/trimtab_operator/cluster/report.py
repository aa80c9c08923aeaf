"""Writes the status, once a pass and only when it says something new; then the Events that speak of it."""

import asyncio
import hashlib
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import orjson

from trimtab_operator import metrics, names
from trimtab_operator.cluster.client import Client
from trimtab_operator.cluster.events import EventWriter
from trimtab_operator.cluster.store import Store
from trimtab_operator.cluster.trim import Stored
from trimtab_operator.errors import NotFoundError
from trimtab_operator.state import Manifest, ObjectRef, Outcome

_LOG = logging.getLogger(__name__)


class Reporter:
    """Status writes by compare-and-swap."""

    def __init__(self, client: Client, store: Store, events: EventWriter) -> None:
        self._client = client
        self._store = store
        self._events = events
        self._written: dict[str, tuple[bytes, int]] = {}
        """Digest of the status that was last written, and the version that it made."""

    async def report(
        self, outcome: Outcome, owner: Stored, *, follow: Callable[[], Coroutine[Any, Any, None]] | None = None
    ) -> bool:
        """Store the status if it differs. True: it was written, so look again at what follows from it.

        `follow` is waited for once it is written; our own book-keeping happens while the API server works on that.

        Raises:
            ConflictError: somebody wrote first; nothing was stored, followed by anything, or told in an Event.
        """
        before: Manifest = owner.body().get("status") or {}
        if before == outcome.status:
            return False
        digest = hashlib.sha256(orjson.dumps(outcome.status, option=orjson.OPT_SORT_KEYS)).digest()
        if self._written.get(owner.uid) == (digest, owner.version):
            # The server stores it in another form (a default, a pruned field); writing again would never end.
            return False
        ref = ObjectRef(names.API_VERSION, owner.kind, owner.namespace, owner.name, owner.uid, str(owner.version))
        try:
            reply = await self._client.replace_status(ref, outcome.status)
        except NotFoundError:
            self._store.missed(owner, by=owner)
            return False
        following = asyncio.create_task(follow()) if follow is not None else None
        await until_sent()
        stored = Stored.of(reply)
        self._store.wrote(stored, by=owner)
        self._written[owner.uid] = (digest, stored.version)
        self._tell(outcome, ref, owner, before)
        if following is not None:
            await following
        return True

    def _tell(self, outcome: Outcome, ref: ObjectRef, owner: Stored, before: Manifest) -> None:
        _count_ended(before, outcome.status)
        _LOG.info(
            "status_written kind=%s namespace=%s name=%s state=%s",
            owner.kind,
            owner.namespace,
            owner.name,
            _state(outcome.status),
        )
        for note in outcome.events:
            self._events.post(ref, note)

    def forget(self, uid: str) -> None:
        """The object is gone."""
        self._written.pop(uid, None)


async def until_sent() -> None:
    """Let the requests of other tasks go out: before Python 3.12 a request's body is sent by a task of its own."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


def _state(status: Manifest) -> str:
    return str(status.get("state") or "-")


def _count_ended(before: Manifest, after: Manifest) -> None:
    """An attempt has ended when its reason appears."""
    ended = {attempt.get("number") for attempt in before.get("attempts") or () if attempt.get("reason")}
    for attempt in after.get("attempts") or ():
        if attempt.get("reason") and attempt.get("number") not in ended:
            metrics.ATTEMPTS_ENDED.labels(attempt["reason"]).inc()
