"""Kopf in a thread and an event loop of its own, started anew whenever it ends.

At its end Kopf cancels every task of its loop: the Store, the queue and the workers must live elsewhere. One ERROR in a watch
stream ends it, and its end can take seconds or hang for good (watchers that lost the session wait for a login that nobody
serves any more). So its end is not waited for: what is left of it is abandoned with its loop, and the next one starts at once.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from trimtab_operator import metrics
from trimtab_operator.cluster.connection import Connection
from trimtab_operator.handlers import watch
from trimtab_operator.intake import Activity, Receiver
from trimtab_operator.settings import Settings

_LOG = logging.getLogger(__name__)
_LOOK_SECONDS = 0.2
_GRACE_SECONDS = 0.3
"""What Kopf gets to end by itself, and its tasks to hear that they are cancelled."""
_SERVES_SECONDS = 15.0
"""Time in which a run of Kopf must have asked for every kind. It looks up what exists once, and an API server that has just
started does not know our kinds yet: Kopf would leave them out for good."""
_STARTS_SECONDS = 5.0
"""A run shorter than this could not even start."""
_PAUSES = (0.1, 1.0)
"""Seconds before the next run, after a run that started and after one that did not."""


class EndedError(Exception):
    """Kopf is of no more use: it closed its session, or overlooked a kind."""


class Watches:
    """Restarts Kopf for as long as the process lives."""

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
            self.activity.begin()
            started = time.monotonic()
            loop = asyncio.new_event_loop()
            loop.set_exception_handler(_note)
            try:
                loop.run_until_complete(self._operate(loop))
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - whatever ended Kopf, it must come back
                _LOG.warning("watches_ended error=%r", f"{type(error).__name__}: {error}"[:500])
            finally:
                _abandon(loop)
            if self._stopping.is_set():
                return
            metrics.WATCH_RESTARTS.inc()
            pause = _PAUSES[time.monotonic() - started < _STARTS_SECONDS]
            _LOG.info("watches_restarting pause_seconds=%.1f", pause)
            self._stopping.wait(pause)

    async def _operate(self, loop: asyncio.AbstractEventLoop) -> None:
        stop = asyncio.Event()
        self._end_run = lambda: _call(loop, stop.set)
        if self._stopping.is_set():
            return
        kopf = asyncio.create_task(
            watch(
                connection=self._connection,
                settings=self._settings,
                receiver=self._receiver,
                activity=self.activity,
                stop=stop,
            )
        )
        due: float | None = time.monotonic() + _SERVES_SECONDS
        while not (kopf.done() or stop.is_set() or self._session_closed()):
            await asyncio.wait({kopf}, timeout=_LOOK_SECONDS)
            if due is not None and time.monotonic() > due:
                due = None
                if overlooked := self.activity.overlooked():
                    raise EndedError(f"nobody watches {', '.join(overlooked)}")
        await asyncio.wait({kopf}, timeout=_GRACE_SECONDS)
        if kopf.done():
            kopf.result()
        elif not stop.is_set():
            raise EndedError("a watch failed")

    def _session_closed(self) -> bool:
        return self.activity.session is not None and self.activity.session.closed


def _abandon(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel what is left, without waiting for those who do not listen."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        # Kopf, being cancelled, cancels whatever else runs in its loop: this wait too.
        with contextlib.suppress(asyncio.CancelledError):
            loop.run_until_complete(asyncio.wait(tasks, timeout=_GRACE_SECONDS))
    loop.close()


def _call(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    """Call in another thread's loop, if that still runs."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(function)


def _note(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Watchers that fail together with the one that ended Kopf, and tasks that were left behind."""
    _LOG.debug("watcher_failed error=%r", context.get("exception") or context.get("message"))
