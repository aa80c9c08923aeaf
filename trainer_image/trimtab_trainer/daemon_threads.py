"""A pool of threads that never keeps the process alive.

`concurrent.futures` waits for its threads when the interpreter exits. A request to a store that has gone away can last
minutes, and a pod has only its grace period to say how it ended.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any

_CLOSE_SECONDS = 2.0


class DaemonThreads:
    """Runs calls on up to `count` daemon threads, in the order of their submission."""

    def __init__(self, count: int, *, name: str) -> None:
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._count, self._name = count, name
        self._lock = threading.Lock()

    def submit(self, call: Callable[[], Any]) -> Future[Any]:
        """Have a call made; its result or exception."""
        future: Future[Any] = Future()
        with self._lock:
            if len(self._threads) < self._count:
                thread = threading.Thread(target=self._work, name=f"{self._name}-{len(self._threads)}", daemon=True)
                self._threads.append(thread)
                thread.start()
        self._calls.put((future, call))
        return future

    def close(self) -> None:
        """End the threads; one that is busy for longer than two seconds is left behind."""
        deadline = time.monotonic() + _CLOSE_SECONDS
        for _ in self._threads:
            self._calls.put(None)
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _work(self) -> None:
        while (submitted := self._calls.get()) is not None:
            future, call = submitted
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(call())
            except BaseException as error:  # noqa: BLE001 - belongs to whoever waits for the result
                future.set_exception(error)
