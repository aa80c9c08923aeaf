"""The one thread that owns torch: steps every model that has work, and runs what may not happen during a step."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Protocol, TypeVar

import torch

from trimtab_trainer import logs

Result = TypeVar("Result")


class Lane(Protocol):
    """One model with the requests that wait for it."""

    @property
    def running(self) -> int:
        """Requests in the batch."""

    @property
    def waiting(self) -> int:
        """Requests that wait for it."""

    def step(self) -> bool:
        """Do a bounded piece of work; False where there is none."""

    def fail(self, error: Exception) -> None:
        """End the requests of the step that failed, and begin anew."""


class Engine:
    """Runs lanes in turn. Requests are handed to a lane from any thread, then the engine is woken."""

    def __init__(self, *, threads: int) -> None:
        self._threads = threads
        self._lanes: tuple[Lane, ...] = ()
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._awake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self) -> None:
        """End after the current step."""
        self._stopping = True
        self._awake.set()
        if self._thread.ident is not None:
            self._thread.join()

    @property
    def alive(self) -> bool:
        """The thread runs; without it nothing is ever answered."""
        return self._thread.is_alive()

    @property
    def ready(self) -> bool:
        """It works as long as it lives."""
        return self.alive

    @property
    def running(self) -> int:
        """Requests in the batches."""
        return sum(lane.running for lane in self._lanes)

    @property
    def waiting(self) -> int:
        """Requests that wait for them."""
        return sum(lane.waiting for lane in self._lanes)

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """The models."""
        return self._lanes

    def wake(self) -> None:
        """There is new work."""
        self._awake.set()

    def add(self, lane: Lane) -> None:
        """Step one more model."""
        self._lanes = (*self._lanes, lane)

    def remove(self, lane: Lane) -> None:
        """Step a model no more."""
        self._lanes = tuple(other for other in self._lanes if other is not lane)

    def call(self, function: Callable[[], Result]) -> "Future[Result]":
        """Run something between two steps: models change only there."""
        future: Future[Result] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return  # Nobody waits for it any more.
            try:
                future.set_result(function())
            except Exception as error:  # noqa: BLE001 - it is the caller's
                future.set_exception(error)

        self._calls.put(run)
        self.wake()
        return future

    def _run(self) -> None:
        torch.set_num_threads(self._threads)
        while not self._stopping:
            # Cleared before looking: what comes later wakes the next wait.
            self._awake.clear()
            self._run_calls()
            worked = [self._step(lane) for lane in self._lanes]
            if not any(worked):
                self._awake.wait()

    def _run_calls(self) -> None:
        while True:
            try:
                self._calls.get_nowait()()
            except Empty:
                return

    def _step(self, lane: Lane) -> bool:
        try:
            with torch.inference_mode():
                return lane.step()
        except Exception as error:  # noqa: BLE001 - one model's failure must not end the others
            logs.warning("step_failed", error=type(error).__name__, message=error)
            lane.fail(error)
            return True
