"""Takes keys from the queue and reconciles them, several side by side, each key alone."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Protocol

from pydantic import ValidationError

from trimtab_operator import metrics
from trimtab_operator.cluster.facade import Cluster
from trimtab_operator.cluster.trim import Stored
from trimtab_operator.errors import ConflictError, OperatorError, RetryableError
from trimtab_operator.reconcile import fine_tune_job, model_rollout, model_version, storage_profile, training_profile
from trimtab_operator.reconcile.passes import SETTLED, Pass, unreadable
from trimtab_operator.reconcile.queue import Queue
from trimtab_operator.settings import Settings
from trimtab_operator.state import Key

_LOG = logging.getLogger(__name__)
_PASSES_IN_A_ROW = 6
"""Passes over one key before others get their turn; a later attempt needs three from its claim to its Job."""
_REFUSED_SECONDS = 1.0
"""A quota or an admission rule does not change in milliseconds."""


class Reconciler(Protocol):
    """One kind's pass."""

    def __call__(self, stored: Stored, cluster: Cluster, *, settings: Settings, now: datetime) -> Awaitable[Pass]:
        """Observe, check, plan, apply, status, report."""
        ...


RECONCILERS: Mapping[str, Reconciler] = {
    "FineTuneJob": fine_tune_job.reconcile,
    "ModelVersion": model_version.reconcile,
    "ModelRollout": model_rollout.reconcile,
    "StorageProfile": storage_profile.reconcile,
    "TrainingProfile": training_profile.reconcile,
}


class Worker:
    """Drives the queue while this replica leads."""

    def __init__(
        self, queue: Queue, cluster: Cluster, settings: Settings, *, reconcilers: Mapping[str, Reconciler] = RECONCILERS
    ) -> None:
        self._queue = queue
        self._cluster = cluster
        self._settings = settings
        self._reconcilers = reconcilers
        self._ready = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        queue.changed = self._ready.set

    async def run(self) -> None:
        """Reconcile until cancelled; what is in work then is finished first."""
        slots = asyncio.Semaphore(self._settings.workers)
        try:
            while True:
                await slots.acquire()
                key = await self._next()
                task = asyncio.create_task(self._work(key, slots.release))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        finally:
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=10)

    async def _next(self) -> Key:
        while True:
            self._ready.clear()
            key = self._queue.take()
            if key is not None:
                return key
            try:
                async with asyncio.timeout(self._queue.next_due()):
                    await self._ready.wait()
            except TimeoutError:
                continue

    async def _work(self, key: Key, release: Callable[[], None]) -> None:
        started = time.perf_counter()
        result = "success"
        try:
            outcome = await self._passes(key)
        except Exception as error:  # noqa: BLE001 - whatever goes wrong with one key must not stop the others
            result = "error" if not isinstance(error, ConflictError) else "conflict"
            self._failed(key, error)
        else:
            if outcome.refused:
                result = "refused"
                self._queue.retry(key, at_least=_REFUSED_SECONDS)
            else:
                self._queue.forget(key)
            if outcome.again:
                self._queue.add(key)
            elif outcome.after is not None:
                self._queue.add_after(key, outcome.after.total_seconds())
        finally:
            self._queue.done(key)
            release()
            metrics.RECONCILE_SECONDS.labels(key.kind, result).observe(time.perf_counter() - started)

    async def _passes(self, key: Key) -> Pass:
        """Pass after pass while each changes something, for as long as it is fair."""
        outcome = SETTLED
        for _ in range(_PASSES_IN_A_ROW):
            stored = self._cluster.store.get(*key)
            if stored is None or (stored.deleting and not stored.held):
                return SETTLED
            outcome = await self._pass(key, stored)
            if not outcome.again:
                break
        return outcome

    async def _pass(self, key: Key, stored: Stored) -> Pass:
        now = datetime.now(UTC)
        try:
            return await self._reconcilers[key.kind](stored, self._cluster, settings=self._settings, now=now)
        except ConflictError:
            await self._cluster.refresh(stored)
            raise
        except ValidationError as error:
            # Seldom: the schema of the API server is stricter than ours. Such an object must not be tried for ever.
            first = error.errors(include_url=False)[0]
            problem = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
            await self._cluster.report(unreadable(stored.body(), problem, now=now), stored)
            return SETTLED

    def _failed(self, key: Key, error: Exception) -> None:
        wait = error.retry_after.total_seconds() if isinstance(error, RetryableError) and error.retry_after else 0.0
        seconds = self._queue.retry(key, at_least=wait)
        text = f"{type(error).__name__}: {error}"
        if isinstance(error, ConflictError):
            _LOG.debug("reconcile_conflict kind=%s namespace=%s name=%s error=%r", *key, text)
        elif isinstance(error, OperatorError):
            _LOG.warning(
                "reconcile_failed kind=%s namespace=%s name=%s retry_seconds=%.2f error=%r", *key, seconds, text
            )
        else:
            _LOG.error(
                "reconcile_crashed kind=%s namespace=%s name=%s retry_seconds=%.2f error=%r",
                *key,
                seconds,
                text,
                exc_info=error,
            )
