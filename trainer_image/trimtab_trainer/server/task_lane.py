"""Models that answer with one forward pass: requests that arrive together for the same version go through it together."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from trimtab_trainer.data.batches import micro_batches
from trimtab_trainer.server.adapters import Adapters
from trimtab_trainer.server.servable import Head

TOKENS_PER_STEP = 4096
"""Tokens, patches or frames of one forward pass, padding included."""


@dataclass(eq=False)
class TaskWork:
    """One request: some examples. `deliver` is called from the engine's thread."""

    head: Head
    examples: Sequence[Any]
    adapter: str
    deliver: Callable[[list[Any] | Exception], None]
    cancelled: bool = False


class TaskLane:
    """One model in memory and its requests. Everything but `submit` belongs to the engine's thread."""

    def __init__(self, adapters: Adapters | None = None) -> None:
        self.adapters = adapters
        """Those that requests may choose; None where the model belongs to one version."""
        self._waiting: deque[TaskWork] = deque()
        self._running: list[TaskWork] = []

    def submit(self, request: TaskWork) -> None:
        """Queue a request; wake the engine afterwards."""
        self._waiting.append(request)

    @property
    def running(self) -> int:
        """Requests of the current step."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return len(self._waiting)

    def step(self) -> bool:
        """Answer the oldest request and those for the same head of the same version that fit beside it."""
        self._running = requests = self._next_requests()
        if not requests:
            return False
        if self.adapters is not None:
            self.adapters.choose_for_all(requests[0].adapter)
        answers = answer(requests[0].head, [example for request in requests for example in request.examples])
        for request in requests:
            request.deliver(answers[: len(request.examples)])
            del answers[: len(request.examples)]
        self._running = []
        return True

    def fail(self, error: Exception) -> None:
        """Give up the requests of this step."""
        for request in self._running:
            request.deliver(error)
        self._running = []

    def _next_requests(self) -> list[TaskWork]:
        chosen: list[TaskWork] = []
        tokens = 0
        for _ in range(len(self._waiting)):
            request = self._waiting.popleft()
            if request.cancelled:
                continue
            size = sum(example.length for example in request.examples)
            is_other = bool(chosen) and request.head is not chosen[0].head
            if chosen and (is_other or tokens + size > TOKENS_PER_STEP):
                self._waiting.appendleft(request)
                break
            chosen.append(request)
            tokens += size
        return chosen


def answer(head: Head, examples: Sequence[Any]) -> list[Any]:
    """What the task says of each example. Those of like lengths share a pass; padding must not change an answer."""
    answers: list[Any] = [None] * len(examples)
    order = sorted(range(len(examples)), key=lambda index: (repr(_shape(examples[index])), -examples[index].length))
    for _, group in groupby(order, key=lambda index: _shape(examples[index])):
        rows = [(index,) for index in group]
        for batch in micro_batches(rows, size=None, tokens=TOKENS_PER_STEP, length=lambda row: examples[row[0]].length):
            chosen = [index for row in batch for index in row]
            found = head.task.answer(head.model, [examples[index] for index in chosen])
            for index, one in zip(chosen, found, strict=True):
                answers[index] = one
    return answers


def _shape(example: Any) -> Any:
    """Pictures and recordings of different sizes would be padded beside each other, which some models see or hear."""
    return getattr(example, "shape", None)
