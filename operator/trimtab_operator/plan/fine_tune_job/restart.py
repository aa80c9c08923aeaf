"""Whether, and when, a job tries again: a function of how its attempts ended.

| ended with                                         | who      | next attempt                                        |
|----------------------------------------------------|----------|-----------------------------------------------------|
| exit codes 10 to 29: data, model, secret, diverged | user     | none: the job fails at once                         |
| OutOfMemory                                        | user     | one: a peak of the node may pass, a model will not  |
| NodeLost, Preempted, Evicted, PodDeleted,          | platform | at once; free of charge if the attempt had          |
| Interrupted                                        |          | committed a checkpoint of its own                   |
| ResultLost                                         | platform | at once: it publishes again from the last checkpoint|
| StorageUnavailable, TrainerError, PeerLost,        | platform | after 10 s, 20 s, 40 s ... 5 min                    |
| ContainerCreateFailed                              |          |                                                     |
| Suspended                                          | user     | when spec.suspend is false again; free of charge    |
| DeadlineExceeded, BudgetExceeded                   | user     | none                                                |
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Literal

from trimtab_operator.api.times import parse_time
from trimtab_operator.api.v1alpha1.fine_tune_job import Attempt
from trimtab_operator.api.v1alpha1.reasons import Reason
from trimtab_operator.state import Problem
from trimtab_trainer.contract.exit_codes import REASON_OF, USER_MUST_ACT

FIRST_DELAY = timedelta(seconds=10)
LONGEST_DELAY = timedelta(minutes=5)
OUT_OF_MEMORY_ATTEMPTS = 2
_DOUBLINGS = 10

_FINAL = frozenset(Reason(REASON_OF[code].value) for code in USER_MUST_ACT)
_STOPS = frozenset({Reason.DEADLINE_EXCEEDED, Reason.BUDGET_EXCEEDED})
DISRUPTIONS = frozenset({
    Reason.NODE_LOST, Reason.PREEMPTED, Reason.EVICTED, Reason.POD_DELETED, Reason.INTERRUPTED, Reason.RESULT_LOST,
})  # fmt: skip
"""Nothing is wrong with the run: the next attempt starts at once."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows from the attempts so far: an end, or a time from which to try again."""

    failure: Problem | None = None
    retry_at: datetime | None = None
    """None: at once."""


def is_final(reason: Reason) -> bool:
    """Whether trying again cannot help."""
    return reason in _FINAL


def who_acts(reason: Reason) -> Literal["user", "platform"]:
    """Who can change something about it."""
    return "user" if reason in _FINAL | _STOPS | {Reason.OUT_OF_MEMORY, Reason.SUSPENDED} else "platform"


def verdict(attempts: Sequence[Attempt], *, max_attempts: int) -> Verdict:
    """Judge attempts that have all ended, oldest first."""
    if not attempts:
        return Verdict()
    last = attempts[-1]
    reason = reason_of(last)
    if reason in _FINAL | _STOPS or (
        reason is Reason.OUT_OF_MEMORY and _count(attempts, reason) >= OUT_OF_MEMORY_ATTEMPTS
    ):
        return Verdict(failure=Problem(reason, last.message, who_acts(reason)))
    spent = sum(attempt.counted for attempt in attempts)
    if spent >= max_attempts:
        return Verdict(failure=_exhausted(last, spent=spent, max_attempts=max_attempts))
    delay = retry_delay(attempts)
    if not delay or last.end_time is None:
        return Verdict()
    return Verdict(retry_at=parse_time(last.end_time) + delay)


def retry_delay(attempts: Sequence[Attempt]) -> timedelta:
    """It doubles with every failure in a row. Disruptions and suspensions wait for nothing, and break the row."""
    free = DISRUPTIONS | {Reason.SUSPENDED, Reason.OUT_OF_MEMORY}
    row = sum(1 for _ in takewhile(lambda attempt: reason_of(attempt) not in free, reversed(attempts)))
    return min(FIRST_DELAY * 2 ** min(row - 1, _DOUBLINGS), LONGEST_DELAY) if row else timedelta(0)


def reason_of(attempt: Attempt) -> Reason:
    """The recorded reason; one that a newer operator has written is an error like any other."""
    try:
        return Reason(attempt.reason)
    except ValueError:
        return Reason.TRAINER_ERROR


def _count(attempts: Sequence[Attempt], reason: Reason) -> int:
    return sum(attempt.reason == reason for attempt in attempts)


def _exhausted(last: Attempt, *, spent: int, max_attempts: int) -> Problem:
    reason = reason_of(last)
    if max_attempts == 1:
        return Problem(reason, last.message, who_acts(reason))
    message = (
        f"{spent} of {max_attempts} attempts failed, the last with {last.reason}: {last.message} "
        "Mend the cause, then create the job again."
    )
    return Problem(Reason.ATTEMPTS_EXHAUSTED, message, who_acts(reason))
