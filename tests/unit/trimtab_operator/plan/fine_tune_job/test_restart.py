"""When a job tries again."""

from datetime import timedelta

import pytest
from tests.support.builders import NOW, checkpoint, make_job, make_report
from tests.support.world import World

from trimtab_operator.api.times import format_time
from trimtab_operator.api.v1alpha1 import Reason
from trimtab_operator.api.v1alpha1.fine_tune_job import Attempt
from trimtab_operator.plan.fine_tune_job.restart import LONGEST_DELAY, is_final, retry_delay, verdict
from trimtab_trainer.contract.exit_codes import REASON_OF, USER_MUST_ACT

FINAL = sorted(Reason(REASON_OF[code].value) for code in USER_MUST_ACT)
DELAYED = [Reason.STORAGE_UNAVAILABLE, Reason.TRAINER_ERROR, Reason.PEER_LOST, Reason.CONTAINER_CREATE_FAILED]
AT_ONCE = [
    Reason.NODE_LOST,
    Reason.PREEMPTED,
    Reason.EVICTED,
    Reason.POD_DELETED,
    Reason.INTERRUPTED,
    Reason.RESULT_LOST,
]


def ended(*reasons: Reason, counted: bool = True) -> list[Attempt]:
    return [
        Attempt(
            number=number,
            job_name=f"tone-a{number}",
            end_time=format_time(NOW),
            reason=reason,
            message="why",
            counted=counted,
        )
        for number, reason in enumerate(reasons, start=1)
    ]


@pytest.mark.parametrize("reason", [*FINAL, Reason.DEADLINE_EXCEEDED, Reason.BUDGET_EXCEEDED])
def test_trying_again_cannot_help(reason: Reason) -> None:
    judged = verdict(ended(reason), max_attempts=4)
    assert judged.failure is not None
    assert (judged.failure.reason, judged.failure.message, judged.failure.who) == (reason, "why", "user")


@pytest.mark.parametrize("reason", AT_ONCE)
def test_at_once(reason: Reason) -> None:
    assert verdict(ended(reason), max_attempts=4).failure is None
    assert verdict(ended(reason), max_attempts=4).retry_at is None


@pytest.mark.parametrize("reason", DELAYED)
def test_after_a_delay(reason: Reason) -> None:
    assert verdict(ended(reason), max_attempts=4).retry_at == NOW + timedelta(seconds=10)


@pytest.mark.parametrize(
    ("reasons", "seconds"),
    [
        pytest.param([Reason.TRAINER_ERROR], 10, id="first"),
        pytest.param([Reason.TRAINER_ERROR] * 3, 40, id="it doubles"),
        pytest.param([Reason.TRAINER_ERROR] * 99, LONGEST_DELAY.total_seconds(), id="up to five minutes"),
        pytest.param([Reason.TRAINER_ERROR, Reason.STORAGE_UNAVAILABLE], 20, id="different failures in a row"),
        pytest.param([Reason.TRAINER_ERROR, Reason.NODE_LOST, Reason.TRAINER_ERROR], 10, id="a disruption breaks the row"),
        pytest.param([Reason.TRAINER_ERROR, Reason.SUSPENDED], 0, id="a suspension waits for nothing"),
    ],
)  # fmt: skip
def test_delay(reasons: list[Reason], seconds: float) -> None:
    assert retry_delay(ended(*reasons)) == timedelta(seconds=seconds)


def test_out_of_memory_is_tried_twice() -> None:
    assert verdict(ended(Reason.OUT_OF_MEMORY), max_attempts=4).failure is None
    judged = verdict(ended(Reason.OUT_OF_MEMORY, Reason.NODE_LOST, Reason.OUT_OF_MEMORY), max_attempts=4)
    assert judged.failure is not None
    assert judged.failure.reason == Reason.OUT_OF_MEMORY


def test_attempts_are_exhausted() -> None:
    judged = verdict(ended(*[Reason.NODE_LOST] * 4), max_attempts=4)
    assert judged.failure is not None
    assert judged.failure.reason == Reason.ATTEMPTS_EXHAUSTED
    assert "4 of 4 attempts failed, the last with NodeLost" in judged.failure.message
    assert judged.failure.who == "platform"


def test_a_single_attempt_fails_with_its_own_reason() -> None:
    judged = verdict(ended(Reason.NODE_LOST), max_attempts=1)
    assert judged.failure is not None
    assert judged.failure.reason == Reason.NODE_LOST


def test_what_is_free_does_not_exhaust() -> None:
    assert verdict(ended(*[Reason.PREEMPTED] * 40, counted=False), max_attempts=2).failure is None


def test_every_reason_of_a_newer_operator_is_an_error() -> None:
    attempt = ended(Reason.TRAINER_ERROR)[0].model_copy(update={"reason": "FromTheFuture"})
    assert verdict([attempt], max_attempts=4).retry_at is not None
    assert not is_final(Reason.TRAINER_ERROR)


def test_the_next_attempt_waits_for_its_time() -> None:
    world = World().settle().advance(1).run().advance(5).fail(1)
    assert world.status.state == "Retrying"
    assert world.plan.requeue_after == timedelta(seconds=10)
    assert len(world.status.attempts) == 1
    writes = world.writes
    assert world.advance(9).writes == writes
    world.advance(1)
    assert world.status.attempts[-1].number == 2
    assert "tone-a2" in world.jobs


def test_the_number_is_stored_before_its_job_exists() -> None:
    world = World()
    assert world.one_pass()
    assert (world.status.attempts[-1].number, list(world.jobs)) == (1, [])
    assert world.one_pass()
    assert list(world.jobs) == ["tone-a1"]


def test_disruptions_of_an_attempt_with_a_checkpoint_are_free() -> None:
    world = World(make_job(runPolicy={"maxAttempts": 2})).settle()
    for attempt in range(1, 6):
        world.advance(1).run().advance(6)
        world.say(make_report(attempt=attempt, checkpoints=[checkpoint(attempt, attempt=attempt)])).fail(143)
    assert [done.counted for done in world.status.attempts[:-1]] == [False] * 5
    assert world.status.state == "Starting"


def test_disruptions_without_progress_are_not() -> None:
    world = World(make_job(runPolicy={"maxAttempts": 2})).settle()
    for _ in range(2):
        world.advance(1).run().advance(6).fail(143)
    assert (world.status.state, world.status.condition("Failed").reason) == ("Failed", "AttemptsExhausted")


def test_a_user_error_ends_the_job_at_once() -> None:
    world = World().settle().advance(1).run().advance(5).fail(12, message="{}")
    assert world.status.state == "Failed"
    assert len(world.status.attempts) == 1
    assert world.status.completion_time is not None
