"""When a status is written, and which Events speak of it."""

import json

from tests.support.builders import checkpoint, make_job, make_report, success
from tests.support.world import World

from trimtab_operator.api.v1alpha1 import FineTuneJob


def running_world() -> World:
    return World().settle().advance(1).run().advance(6)


def test_progress_is_written_at_most_every_five_seconds() -> None:
    world = running_world().say(make_report(progress={"step": 1}))
    writes = world.writes
    for step in range(2, 5):
        world.advance(1).say(make_report(progress={"step": step}))
    assert (world.writes, world.status.progress.step) == (writes, 1)
    assert world.plan.requeue_after is not None
    world.advance(2)
    assert (world.writes, world.status.progress.step) == (writes + 1, 4)


def test_what_matters_is_written_at_once_and_takes_progress_along() -> None:
    world = running_world().say(make_report(progress={"step": 1}))
    world.advance(1).say(make_report(progress={"step": 2})).change(suspend=True)
    assert (world.status.state, world.status.progress.step) == ("Suspending", 2)


def test_a_new_operator_knows_what_the_old_one_wrote() -> None:
    world = running_world().say(make_report(progress={"step": 9, "etaSeconds": 60}, checkpoints=[checkpoint(5)]))
    writes = world.writes
    world.report = None
    assert world.advance(60).writes == writes
    assert (world.status.state, world.status.progress.eta) == ("Running", "1m")


def test_no_time_of_arrival_while_nothing_trains() -> None:
    world = running_world().say(make_report(progress={"step": 9, "etaSeconds": 60, "tokensPerSecond": 7})).fail(1)
    progress = world.status.progress
    assert (progress.step, progress.eta, progress.eta_seconds, progress.tokens_per_second) == (9, "", None, None)


def test_a_new_attempt_begins_without_the_phase_of_the_old_one() -> None:
    world = running_world().say(make_report("Publishing")).fail(143)
    assert world.status.progress.phase == ""
    assert world.run().status.condition("Running").reason == "Preparing"


def test_a_report_of_an_old_attempt_changes_nothing() -> None:
    world = running_world().say(make_report(progress={"step": 9}))
    old = world.report
    world.advance(1).fail(143).run()
    world.report = old
    writes = world.writes
    assert world.advance(60).writes == writes


def test_what_the_trainer_found_is_kept_for_the_next_attempt() -> None:
    datasets = [{"uri": "s3://data/train.jsonl", "digest": "sha256:1", "examples": 9}]
    world = running_world().say(make_report(modelDigest="sha256:2", datasets=datasets, resumedFromStep=None))
    world.advance(1).fail(143)
    config = json.loads(
        next(made for made in world.created if made["metadata"]["name"] == "tone-a2")["data"]["run-config.json"]
    )
    assert config["pins"] == {"model": "sha256:2", "datasets": datasets}
    world.run().advance(6).say(make_report(attempt=2, resumedFromStep=10))
    assert world.status.attempts[-1].resumed_from_step == 10


def test_rejected_checkpoints() -> None:
    world = running_world().say(make_report(checkpoints=[checkpoint(10), checkpoint(20)])).fail(143).run().advance(6)
    refused = {"step": 20, "attempt": 1, "uri": checkpoint(20).uri, "why": "sha256 differs"}
    world.say(make_report(attempt=2, rejected=[refused], checkpoints=[checkpoint(10)]))
    assert world.status.last_checkpoint.step == 10
    assert [one.step for one in world.status.rejected_checkpoints] == [20]
    assert [event.message for event in world.events if event.reason == "CheckpointRejected"] == [
        "The checkpoint of step 20 does not match its digests and is not used: sha256 differs"
    ]


def test_events_of_a_job_that_is_retried() -> None:
    world = running_world().fail(1, message="boom").advance(10).run().advance(6)
    world.reserve()
    world.succeed(success())
    told = [(event.type, event.reason.value) for event in world.events]
    assert told == [
        ("Normal", "Accepted"),
        ("Normal", "AttemptStarted"),
        ("Warning", "Retrying"),
        ("Normal", "AttemptStarted"),
        ("Normal", "CheckpointCommitted"),
        ("Normal", "Succeeded"),
    ]


def test_events_of_a_job_that_fails() -> None:
    world = running_world().fail(12)
    assert [(event.type, event.reason.value) for event in world.events][-1] == ("Warning", "DatasetInvalid")


def test_reading_the_wire_gives_what_was_written() -> None:
    world = running_world()
    world.reserve()
    world.succeed(success())
    body = {"metadata": {"name": "tone"}, "spec": world.job.spec.to_json(), "status": world.wire}
    assert FineTuneJob.parse(json.loads(json.dumps(body))).status == world.status


def test_the_status_of_a_long_job_stays_small() -> None:
    world = World(make_job(runPolicy={"maxAttempts": 100})).settle()
    for _ in range(60):
        world.advance(301).run().advance(1).fail(1, message="x" * 3000)
    assert len(json.dumps(world.wire)) < 100_000
