"""Which key is next: de-duplicated, one worker per key, backoff with jitter, initial list last.

The rules are those of controller-runtime's work queue. A plain data structure that is told the time; `Worker` drives it.
"""

import heapq
import itertools
import random
import time
from collections.abc import Callable
from enum import IntEnum

from trimtab_operator.state import Key

_BACKOFF_SECONDS = 0.02
_MAX_BACKOFF_SECONDS = 300.0
_HIGH_IN_A_ROW = 16
"""After so many urgent keys one of the others gets its turn."""
_SPARE_TIMERS = 1000


class Priority(IntEnum):
    """Who goes first."""

    HIGH = 0
    """Something changed just now."""
    LOW = 1
    """The initial list and sweeps: probably nothing to do."""


class Queue:
    """Keys that want a reconcile."""

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, jitter: Callable[[], float] = random.random
    ) -> None:
        self.changed: Callable[[], None] = lambda: None
        """Called when a key may have become ready sooner than was known."""
        self._clock = clock
        self._jitter = jitter
        self._ready: tuple[dict[Key, float], dict[Key, float]] = ({}, {})
        self._active: set[Key] = set()
        self._dirty: dict[Key, Priority] = {}
        self._due: dict[Key, tuple[float, int]] = {}
        self._timers: list[tuple[float, int, Key]] = []
        self._order = itertools.count()
        self._failures: dict[Key, int] = {}
        self._urgent_in_a_row = 0

    def __len__(self) -> int:
        return len(self._ready[Priority.HIGH]) + len(self._ready[Priority.LOW])

    @property
    def active(self) -> int:
        """Keys in work."""
        return len(self._active)

    def add(self, key: Key, priority: Priority = Priority.HIGH) -> None:
        """Look at a key soon. While it is in work, it comes again afterwards."""
        if key in self._active:
            self._dirty[key] = min(priority, self._dirty.get(key, priority))
            return
        high, low = self._ready
        if priority is Priority.HIGH and key not in high:
            high[key] = low.pop(key, self._clock())
        elif priority is Priority.LOW and key not in high:
            low.setdefault(key, self._clock())
        self.changed()

    def add_after(self, key: Key, seconds: float) -> None:
        """Look at a key after a while; of several such times the earliest counts."""
        timer = (self._clock() + seconds, next(self._order))
        if key in self._due and self._due[key] <= timer:
            return
        self._due[key] = timer
        heapq.heappush(self._timers, (*timer, key))
        if len(self._timers) > 2 * len(self._due) + _SPARE_TIMERS:
            # Timers that a later pass made pointless: far ones would pile up for hours.
            self._timers = [(*timer, key) for key, timer in self._due.items()]
            heapq.heapify(self._timers)
        self.changed()

    def take(self) -> Key | None:
        """The next key, which is in work from now on; None when nothing is ready."""
        self._wake()
        high, low = self._ready
        source = low if low and (not high or self._urgent_in_a_row >= _HIGH_IN_A_ROW) else high
        if not source:
            return None
        self._urgent_in_a_row = self._urgent_in_a_row + 1 if source is high else 0
        key = next(iter(source))
        del source[key]
        self._active.add(key)
        # The pass that begins now decides anew when to look again.
        self._due.pop(key, None)
        return key

    def done(self, key: Key) -> None:
        """The work on a key is over; what happened to it meanwhile makes it ready again."""
        self._active.discard(key)
        priority = self._dirty.pop(key, None)
        if priority is not None:
            self.add(key, priority)

    def retry(self, key: Key, *, at_least: float = 0.0) -> float:
        """A pass failed: come again after a time that doubles. Returns that time."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        seconds = min(_BACKOFF_SECONDS * 2.0 ** min(failures, 30), _MAX_BACKOFF_SECONDS)
        seconds = max(seconds * (0.75 + 0.5 * self._jitter()), at_least)
        # What came in while it failed waits with it: a stream of events must not undo the backoff.
        self._dirty.pop(key, None)
        self.add_after(key, seconds)
        return seconds

    def forget(self, key: Key) -> None:
        """A pass succeeded: the next failure starts from the shortest backoff."""
        self._failures.pop(key, None)

    def next_due(self) -> float | None:
        """Seconds until a key becomes ready; None when there is none."""
        if len(self):
            return 0.0
        while self._timers and self._due.get(self._timers[0][2]) != self._timers[0][:2]:
            heapq.heappop(self._timers)
        return max(0.0, self._timers[0][0] - self._clock()) if self._timers else None

    def oldest_seconds(self) -> float:
        """How long the longest-waiting ready key has waited."""
        oldest = min((min(ready.values()) for ready in self._ready if ready), default=self._clock())
        return self._clock() - oldest

    def _wake(self) -> None:
        now = self._clock()
        while self._timers and self._timers[0][0] <= now:
            due, order, key = heapq.heappop(self._timers)
            if self._due.get(key) == (due, order):
                del self._due[key]
                self.add(key)
