"""The queue against a clock that tests turn."""

import pytest

from trimtab_operator.reconcile.queue import Priority, Queue
from trimtab_operator.state import Key

HIGH, LOW = Priority.HIGH, Priority.LOW


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(clock: Clock) -> Queue:
    return Queue(clock=clock, jitter=lambda: 0.5)


def key(name: str) -> Key:
    return Key("FineTuneJob", "team", name)


A, B, C = key("a"), key("b"), key("c")


def drained(queue: Queue) -> list[str]:
    names = []
    while (taken := queue.take()) is not None:
        names.append(taken.name)
        queue.done(taken)
    return names


@pytest.mark.parametrize(
    ("added", "order"),
    [
        pytest.param([(A, HIGH), (B, HIGH)], ["a", "b"], id="first come, first served"),
        pytest.param([(A, HIGH), (B, HIGH), (A, HIGH)], ["a", "b"], id="once, however often it was added"),
        pytest.param([(A, LOW), (B, HIGH)], ["b", "a"], id="what changed goes before the initial list"),
        pytest.param([(A, LOW), (B, HIGH), (A, HIGH)], ["b", "a"], id="raised"),
        pytest.param([(A, HIGH), (B, HIGH), (A, LOW)], ["a", "b"], id="not lowered"),
    ],
)
def test_order(queue: Queue, added: list[tuple[Key, Priority]], order: list[str]) -> None:
    for item, priority in added:
        queue.add(item, priority)

    assert drained(queue) == order


def test_the_initial_list_is_not_starved(queue: Queue) -> None:
    queue.add(A, LOW)
    for index in range(100):
        queue.add(key(f"h{index}"))

    assert drained(queue).index("a") <= 20


def test_one_worker_per_key(queue: Queue) -> None:
    queue.add(A)
    queue.take()
    queue.add(A)

    assert queue.take() is None, "in work"
    queue.done(A)
    assert queue.take() == A, "dirty while in work: again"
    queue.done(A)
    assert queue.take() is None


@pytest.mark.parametrize(
    ("waits", "elapsed", "ready"),
    [
        pytest.param([5.0], 4.9, False, id="not yet"),
        pytest.param([5.0], 5.0, True, id="due"),
        pytest.param([5.0, 2.0], 2.0, True, id="the earliest counts"),
        pytest.param([2.0, 5.0], 2.0, True, id="a later one does not delay"),
    ],
)
def test_delayed(queue: Queue, clock: Clock, waits: list[float], elapsed: float, *, ready: bool) -> None:
    for wait in waits:
        queue.add_after(A, wait)

    clock.now += elapsed

    assert (queue.take() == A) is ready


def test_a_pass_forgets_earlier_timers(queue: Queue, clock: Clock) -> None:
    queue.add_after(A, 5)
    queue.add(A)
    queue.take()
    queue.done(A)

    clock.now += 10

    assert queue.take() is None
    assert queue.next_due() is None


def test_far_timers_do_not_pile_up(queue: Queue) -> None:
    for _ in range(5000):
        queue.add(A)
        queue.take()
        queue.add_after(A, 86_400)
        queue.done(A)

    assert len(queue._timers) < 2000


@pytest.mark.parametrize(
    ("failures", "at_least", "seconds"),
    [
        pytest.param(1, 0.0, 0.02, id="first"),
        pytest.param(2, 0.0, 0.04, id="doubles"),
        pytest.param(6, 0.0, 0.64, id="again and again"),
        pytest.param(1, 10.0, 10.0, id="as long as the server asked for"),
        pytest.param(60, 0.0, 300.0, id="at most five minutes"),
    ],
)
def test_backoff(queue: Queue, failures: int, at_least: float, seconds: float) -> None:
    waits = [queue.retry(A, at_least=at_least) for _ in range(failures)]

    assert waits[-1] == pytest.approx(seconds)


def test_jitter_spreads_the_backoff(clock: Clock) -> None:
    low, high = (Queue(clock=clock, jitter=lambda value=value: value).retry(A) for value in (0.0, 1.0))

    assert (low, high) == (pytest.approx(0.015), pytest.approx(0.025))


def test_success_forgets_failures(queue: Queue) -> None:
    for _ in range(5):
        queue.retry(A)
    queue.forget(A)

    assert queue.retry(A) == pytest.approx(0.02)


def test_a_failing_key_does_not_hold_up_others(queue: Queue) -> None:
    queue.add(A)
    queue.add(B)
    failing = queue.take()
    assert failing == A
    queue.retry(A)
    queue.done(A)

    assert queue.take() == B


def test_events_during_a_failed_pass_wait_for_its_backoff(queue: Queue, clock: Clock) -> None:
    queue.add(A)
    queue.take()
    queue.add(A)
    queue.retry(A)
    queue.done(A)

    assert queue.take() is None
    clock.now += 1
    assert queue.take() == A


def test_age_of_the_first_key(queue: Queue, clock: Clock) -> None:
    queue.add(A, LOW)
    clock.now += 3
    queue.add(B)
    clock.now += 1
    queue.add(A)

    assert queue.oldest_seconds() == pytest.approx(4.0), "raising a key does not make it young"
    assert len(queue) == 2


def test_whoever_waits_is_told(queue: Queue) -> None:
    told = []
    queue.changed = lambda: told.append(True)

    queue.add(A)
    queue.add_after(B, 1)

    assert len(told) == 2
