"""Whole lives of a job: lost nodes, lost results, queues, and what becomes of old Jobs."""

from datetime import timedelta

import pytest
from tests.support.builders import checkpoint, make_job, make_profile, make_report, make_version, success
from tests.support.world import World

from trimtab_operator.api.v1alpha1 import Reason


def running_world(world: World | None = None) -> World:
    return (world or World()).settle().advance(1).run().advance(6)


def test_a_short_uneventful_job_costs_six_writes() -> None:
    world = World().settle().advance(1).run()
    world.advance(1).say(make_report("Preparing"))
    world.advance(6).say(make_report("Training", checkpoints=[checkpoint(30)], progress={"step": 30}))
    world.advance(1).say(make_report("Publishing"))
    world.reserve()
    world.advance(1).succeed(success())
    assert world.status.state == "Complete"
    assert world.writes <= 6
    assert [event.reason.value for event in world.events] == [
        "Accepted",
        "AttemptStarted",
        "CheckpointCommitted",
        "Succeeded",
    ]


def test_a_job_at_rest_is_never_written_again() -> None:
    world = running_world()
    world.reserve()
    world.succeed(success())
    writes = world.writes
    world.pods.clear()
    world.jobs.clear()
    world.profile = world.storage = None
    world.advance(86400)
    assert (world.writes, world.status.state) == (writes, "Complete")


def test_complete_waits_for_its_version() -> None:
    world = running_world()
    world.reserve()
    world.refuse["ModelVersion"] = (Reason.NAME_CONFLICT, "ModelVersion 'support-tone-v1' belongs to somebody else.")
    world.succeed(success())
    assert world.status.condition("Stalled").reason == Reason.NAME_CONFLICT
    assert not world.status.is_true("Complete")
    assert world.status.published.name == "support-tone-v1", "kept while somebody mends it"
    world.refuse.clear()
    assert world.settle().status.state == "Complete"


def test_the_version_is_the_lasting_record() -> None:
    world = running_world()
    world.reserve()
    world.versions["support-tone-v1"] = make_version(
        source={"name": "tone", "uid": world.job.metadata.uid, "attempt": 1, "step": 60}
    )
    world.end_pod(0)
    world.pods.clear()
    world.newest_job()["status"]["conditions"] = [
        {"type": "Complete", "status": "True", "lastTransitionTime": "2026-11-21T11:00:00Z"}
    ]
    assert world.settle().status.state == "Complete"


def test_a_version_of_somebody_else_is_not_ours() -> None:
    world = running_world()
    name = world.reserve()
    world.versions[name] = make_version(source={"name": "other", "uid": "other", "attempt": 1, "step": 1})
    world.refuse["ModelVersion"] = (Reason.NAME_CONFLICT, "belongs to somebody else")
    world.succeed(success())
    assert not world.status.is_true("Complete")


def test_a_lost_result_is_published_again() -> None:
    world = running_world()
    world.reserve()
    world.end_pod(0, message="no words of ours").end_job()
    assert world.status.attempts[0].reason == Reason.RESULT_LOST
    assert world.status.attempts[-1].number == 2


def test_a_custom_trainer_completes_without_a_version() -> None:
    world = running_world(World(profile=make_profile(command=["python", "own.py"]))).succeed()
    assert world.status.state == "Complete"
    assert not world.status.model_version
    assert "custom trainer" in world.status.condition("Complete").message


def test_the_main_pod_publishes_after_the_others_have_ended() -> None:
    world = World(make_job(distribution={"nodes": 2})).settle().run(2).advance(6)
    world.end_pod(0, index=1).settle()
    assert world.status.state == "Running"


def test_a_node_that_never_answers() -> None:
    world = running_world()
    pod = next(iter(world.pods.values()))
    pod["metadata"]["deletionTimestamp"] = "2026-11-21T12:05:00Z"
    world.settle()
    assert world.status.state == "Running"
    assert world.plan.requeue_after is not None
    world.now = world.now.replace(minute=6)
    world.advance(1)
    assert world.status.attempts[0].reason == Reason.NODE_LOST
    assert world.status.attempts[-1].number == 2
    assert world.jobs["tone-a1"]["metadata"]["deletionTimestamp"], "what is left of it must not come back"
    assert "tone-a2" in world.jobs


@pytest.mark.parametrize("job_fails", [True, False])
def test_a_queue_that_takes_its_quota_back(*, job_fails: bool) -> None:
    world = World(make_job(runPolicy={"queueName": "research", "maxAttempts": 1})).settle()
    world.newest_job()["spec"]["suspend"] = False
    world.run().advance(5)
    world.newest_job()["spec"]["suspend"] = True
    world.settle()
    assert world.status.attempts[-1].number == 1, "its pods still save"
    world.end_pod(143)
    if job_fails:
        world.end_job(
            message="Container trainer for pod demo/x failed with exit code 143 matching FailJob rule at index 2"
        )
    world.settle()
    first, second = world.status.attempts
    assert (first.reason, first.counted, second.number) == ("Preempted", False, 2)
    assert world.status.state == "Queued"


def test_suspend_is_never_written_to_a_job_that_exists() -> None:
    world = World(make_job(runPolicy={"queueName": "research"})).settle()
    assert world.newest_job()["spec"]["suspend"] is True
    world.newest_job()["spec"]["suspend"] = False
    world.advance(60).run().advance(60)
    assert [made["kind"] for made in world.created] == ["ConfigMap", "Job"]


def test_old_jobs_go_and_the_newest_stay_for_their_logs() -> None:
    world = World(make_job(runPolicy={"maxAttempts": 9})).settle()
    for _ in range(5):
        world.advance(300).run().advance(1).fail(1)
    world.advance(300)
    doomed = [name for name, job in world.jobs.items() if "deletionTimestamp" in job["metadata"]]
    assert doomed == ["tone-a1", "tone-a2"]


def test_time_to_live() -> None:
    world = running_world(World(make_job(runPolicy={"ttlSecondsAfterFinished": 100}))).fail(12)
    assert world.plan.requeue_after == timedelta(seconds=100)
    assert not world.advance(99).deleted
    assert world.advance(1).deleted


def test_a_time_to_live_that_means_never() -> None:
    world = running_world(World(make_job(runPolicy={"ttlSecondsAfterFinished": 2**63 - 1}))).fail(12)
    assert not world.advance(10 * 365 * 86400).deleted


def test_a_changed_time_to_live_is_seen() -> None:
    world = running_world().fail(12).change(runPolicy={"ttlSecondsAfterFinished": 5})
    assert world.status.observed_generation == 2
    assert world.advance(5).deleted


def test_a_job_that_is_being_deleted_is_left_alone() -> None:
    world = running_world()
    world.job = world.job.model_copy(
        update={"metadata": world.job.metadata.model_copy(update={"deletion_timestamp": "2026-11-21T12:01:00Z"})}
    )
    writes = world.writes
    world.jobs.clear()
    world.settle()
    assert world.writes == writes
    assert [made["kind"] for made in world.created] == ["ConfigMap", "Job"]


def test_profiles_are_taken_once() -> None:
    world = World(profile=make_profile(image="first")).settle()
    world.profile = make_profile(image="second")
    world.advance(1).run().advance(6).fail(143)
    world.settle()
    images = [
        made["spec"]["template"]["spec"]["containers"][0]["image"] for made in world.created if made["kind"] == "Job"
    ]
    assert images == ["first", "first"]


def test_an_operator_that_was_away_for_the_whole_run() -> None:
    world = World().settle()
    world.reserve()
    world.schedule()
    world.succeed(success())
    assert world.status.state == "Complete"
    assert world.status.last_checkpoint.step == 60
    assert world.status.start_time is not None


@pytest.mark.parametrize("kind", ["profile", "storage"])
def test_a_job_waits_for_what_it_names(kind: str) -> None:
    world = World()
    found = getattr(world, kind)
    setattr(world, kind, None)
    world.settle()
    assert (world.status.state, world.jobs) == ("Rejected", {})
    assert world.status.is_true("Stalled")
    setattr(world, kind, found)
    world.settle()
    assert (world.status.state, list(world.jobs)) == ("Starting", ["tone-a1"])
    assert world.status.is_true("Accepted")
