"""Suspending, deadlines and budgets: save, then stop, the same way."""

from datetime import timedelta
from typing import Any

import pytest
from tests.support.builders import checkpoint, make_job, make_profile, make_report, success
from tests.support.world import World

from trimtab_operator.api.v1alpha1 import Reason
from trimtab_operator.plan.fine_tune_job import course
from trimtab_operator.plan.fine_tune_job.suspension import limits
from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.messages import TerminationMessage


def running_world(**spec: Any) -> World:
    world = World(make_job(**spec), profile=make_profile(pricePerHour=6)).settle().advance(1).run()
    return world.advance(6).say(make_report(checkpoints=[checkpoint(10)]))


def test_suspend_and_resume() -> None:
    world = running_world().change(suspend=True)
    assert world.status.state == "Suspending"
    assert world.newest_job()["metadata"]["deletionTimestamp"]
    assert not world.status.is_true("Suspended")
    world.advance(5).end_pod(143).settle()
    assert world.status.state == "Suspending", "the Job is still there"
    world.remove_job()
    assert world.status.state == "Suspended"
    assert "step 10" in world.status.condition("Suspended").message
    ended = world.status.attempts[-1]
    assert (ended.reason, ended.counted, ended.number) == ("Suspended", False, 1)
    assert world.advance(3600).status.state == "Suspended"
    world.change(suspend=False)
    assert world.status.state == "Starting"
    assert list(world.jobs) == ["tone-a2"]
    assert [event.reason for event in world.events][-2:] == [Reason.SUSPENDED, Reason.RESUMED]


def test_suspended_from_the_beginning() -> None:
    world = World(make_job(suspend=True)).settle()
    assert (world.status.state, world.status.attempts, world.jobs) == ("Suspended", [], {})
    assert world.change(suspend=False).status.state == "Starting"


def test_suspended_before_the_job_exists() -> None:
    world = World()
    world.one_pass()
    world.change(suspend=True)
    assert (world.status.state, world.jobs) == ("Suspended", {})
    assert world.status.attempts[0].counted is False


def test_suspended_while_starting() -> None:
    world = World().settle().schedule().change(suspend=True)
    assert world.status.state == "Suspending"
    assert world.remove_job().status.state == "Suspended"


def test_suspended_and_resumed_before_the_pods_are_gone() -> None:
    world = running_world().change(suspend=True).change(suspend=False)
    assert world.status.state == "Suspending"
    world.remove_job()
    assert (world.status.state, world.status.attempts[-1].number) == ("Starting", 2)


def test_suspended_means_that_the_pods_are_gone() -> None:
    world = running_world().change(suspend=True).advance(2).fail(143)
    assert world.status.state == "Suspending", "the Job has failed, but is still there"
    assert world.remove_job().status.state == "Suspended"


def test_the_last_words_of_a_stopped_pod_are_kept() -> None:
    world = running_world().change(suspend=True)
    words = TerminationMessage(reason=TrainerReason.INTERRUPTED, step=17, last_checkpoint=checkpoint(17))
    world.advance(2).end_pod(143, message=words.model_dump_json(by_alias=True)).settle()
    world.remove_job()
    assert (world.status.progress.step, world.status.last_checkpoint.step) == (17, 17)
    assert "step 17" in world.status.condition("Suspended").message


def test_success_wins_over_suspension() -> None:
    world = running_world()
    world.reserve()
    world.change(suspend=True)
    words = success().model_dump_json(by_alias=True)
    world.advance(2).end_pod(0, message=words).settle()
    assert world.status.state == "Complete"


def test_a_final_failure_wins_over_suspension() -> None:
    world = running_world().change(suspend=True).advance(2).end_pod(18).settle()
    assert (world.status.state, world.status.condition("Failed").reason) == ("Failed", "LossDiverged")


def test_suspensions_are_free() -> None:
    world = running_world(runPolicy={"maxAttempts": 1})
    for _ in range(3):
        world.change(suspend=True).remove_job().change(suspend=False).advance(1).run().advance(6)
    assert world.status.state == "Running"
    assert world.status.attempts[-1].number == 4


def test_suspended_while_retrying() -> None:
    world = running_world().fail(1).change(suspend=True)
    assert world.status.state == "Suspended"
    assert world.change(suspend=False).status.state == "Retrying"


def test_very_many_suspensions_stay_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(course, "MAX_ATTEMPTS_KEPT", 10)
    world = running_world()
    for _ in range(30):
        world.change(suspend=True).remove_job().change(suspend=False).advance(1).run().advance(2)
    assert len(world.status.attempts) <= 10
    assert world.status.attempts[-1].number == 31
    total = sum(attempt.active_seconds for attempt in world.status.attempts)
    assert total == 6 + 29 * 2


@pytest.mark.parametrize(
    ("spec", "seconds", "reason"),
    [
        pytest.param({"runPolicy": {"activeDeadlineSeconds": 60}}, 60, Reason.DEADLINE_EXCEEDED, id="deadline"),
        pytest.param({"budget": {"maxAcceleratorHours": 0.1}}, 360, Reason.BUDGET_EXCEEDED, id="hours of one pod"),
        pytest.param({"budget": {"maxAcceleratorHours": 0.1}, "distribution": {"nodes": 2}}, 180, Reason.BUDGET_EXCEEDED, id="two pods spend twice"),
        pytest.param({"budget": {"maxAcceleratorHours": 0.1}, "distribution": {"acceleratorsPerNode": 4}}, 90, Reason.BUDGET_EXCEEDED, id="four accelerators"),
        pytest.param({"budget": {"maxCost": 0.1}}, 60, Reason.BUDGET_EXCEEDED, id="cost at 6 an hour"),
    ],
)  # fmt: skip
def test_limits(spec: dict[str, Any], seconds: float, reason: Reason) -> None:
    (limit,) = limits(make_job(**spec), make_profile(pricePerHour=6).spec)
    assert (limit.time.total_seconds(), limit.reason) == (pytest.approx(seconds), reason)


def test_a_deadline_saves_first_and_then_fails() -> None:
    world = running_world(runPolicy={"activeDeadlineSeconds": 60})
    assert world.plan.requeue_after == timedelta(seconds=54)
    world.advance(54)
    assert world.status.state == "Stopping"
    assert world.newest_job()["metadata"]["deletionTimestamp"]
    world.remove_job()
    assert (world.status.state, world.status.condition("Failed").reason) == ("Failed", "DeadlineExceeded")


def test_success_wins_over_a_deadline() -> None:
    world = running_world(runPolicy={"activeDeadlineSeconds": 60})
    world.reserve()
    world.advance(60).end_pod(0, message=success().model_dump_json(by_alias=True)).settle()
    assert world.status.state == "Complete"


def test_the_profile_has_a_deadline_for_jobs_that_name_none() -> None:
    profile = make_profile(limits={"maxActiveDeadlineSeconds": 30})
    world = World(profile=profile).settle().advance(1).run().advance(30)
    assert world.status.state == "Stopping"


def test_active_time_adds_up_over_attempts_and_leaves_out_waiting() -> None:
    world = World(make_job(runPolicy={"activeDeadlineSeconds": 100})).settle().advance(500).run().advance(60)
    world.change(suspend=True).remove_job().advance(900).change(suspend=False).advance(500).run()
    assert world.status.state == "Running"
    assert world.advance(39).status.state == "Running"
    assert world.advance(1).status.state == "Stopping"


def test_a_spent_budget_does_not_resume_and_a_raised_one_does() -> None:
    world = running_world(budget={"maxCost": 0.02}).change(suspend=True).advance(20).remove_job()
    assert world.status.state == "Failed"
    world = running_world(budget={"maxCost": 0.02}).change(suspend=True).advance(2).remove_job()
    assert world.change(suspend=False, budget={"maxCost": 9}).status.state == "Starting"


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({"runPolicy": {"activeDeadlineSeconds": 2**63 - 1}}, id="deadline"),
        pytest.param({"budget": {"maxAcceleratorHours": 1e15}}, id="hours"),
        pytest.param({"budget": {"maxCost": 1e15}}, id="cost"),
    ],
)
def test_bounds_that_mean_never(spec: dict[str, Any]) -> None:
    assert running_world(**spec).advance(10 * 86400).status.state == "Running"
