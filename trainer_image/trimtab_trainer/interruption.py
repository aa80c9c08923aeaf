"""SIGTERM: raise at once while nothing is worth saving, else set a flag that the loop looks at between micro batches."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from trimtab_trainer.contract.exit_codes import ExitCode

MARGIN_SECONDS = 5.0
"""Left of the grace period for writing the termination message when a save does not end."""


class Interruption(BaseException):
    """The attempt was asked to stop. A BaseException, so that no library's `except Exception` swallows it."""


class StopSignal:
    """What became of SIGTERM. As process 1 of a container the trainer must handle it itself: there is no default action."""

    def __init__(self) -> None:
        self.requested = False
        self._immediate = True
        self._deadline: threading.Timer | None = None
        self._grace_seconds = 120.0
        self._at_deadline: Callable[[], object] = lambda: None

    def install(self) -> None:
        """Take over SIGTERM and SIGINT. Call it before the slow imports."""
        signal.signal(signal.SIGTERM, self._received)
        signal.signal(signal.SIGINT, self._received)

    def set_deadline(self, grace_seconds: float, at_deadline: Callable[[], object]) -> None:
        """After SIGTERM, `at_deadline` is called shortly before the kubelet's SIGKILL, and the process ends."""
        self._grace_seconds, self._at_deadline = grace_seconds, at_deadline
        if self.requested:
            self._start_deadline()

    def cancel_deadline(self) -> None:
        """The end has been told."""
        if self._deadline is not None:
            self._deadline.cancel()

    @contextmanager
    def finish_first(self) -> Iterator[None]:
        """Inside, SIGTERM only sets the flag: there is something to save."""
        self.raise_if_requested()
        self._immediate = False
        try:
            yield
        finally:
            self._immediate = True

    def raise_if_requested(self) -> None:
        """Raise Interruption if SIGTERM has come."""
        if self.requested:
            raise Interruption("SIGTERM")

    def _received(self, _signal: int, _frame: FrameType | None) -> None:
        first, self.requested = not self.requested, True
        if first:
            self._start_deadline()
            if self._immediate:
                raise Interruption("SIGTERM")

    def _start_deadline(self) -> None:
        if self._deadline is None:
            self._deadline = threading.Timer(max(self._grace_seconds - MARGIN_SECONDS, 1.0), self._give_up)
            self._deadline.daemon = True
            self._deadline.start()

    def _give_up(self) -> None:
        try:
            self._at_deadline()
        finally:
            os._exit(ExitCode.INTERRUPTED)
