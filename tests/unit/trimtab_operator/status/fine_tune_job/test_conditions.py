"""Every state of a job: its word, its conditions, and what GitOps tools read from them."""

from collections.abc import Callable

import pytest
from tests.support.builders import checkpoint, make_job, make_report, success
from tests.support.kstatus import kstatus
from tests.support.world import World

from trimtab_operator.api.v1alpha1 import Reason
from trimtab_operator.api.v1alpha1.fine_tune_job import JobState
from trimtab_operator.names import API_VERSION

CONDITIONS = [
    "Accepted", "QuotaReserved", "DataReady", "Running", "CheckpointAvailable", "Evaluated", "Suspended", "Complete", "Failed",
    "Ready", "Reconciling", "Stalled",
]  # fmt: skip


def rejected() -> World:
    world = World(make_job(profile="gpu"))
    world.profile = None
    return world.settle()


def queued() -> World:
    return World(make_job(runPolicy={"queueName": "research"})).settle()


def starting() -> World:
    return World().settle()


def running() -> World:
    return starting().advance(1).run()


def training() -> World:
    data = [{"split": "train", "examples": 9}, {"split": "validation", "examples": 1}]
    return running().advance(6).say(make_report("Training", data=data, checkpoints=[checkpoint(10)]))


def evaluating() -> World:
    return training().advance(6).say(make_report("Evaluating", checkpoints=[checkpoint(10)]))


def publishing() -> World:
    return training().advance(6).say(make_report("Publishing", metrics=[{"name": "eval_loss", "value": "0.5"}]))


def suspending() -> World:
    return training().change(suspend=True)


def suspended() -> World:
    return suspending().remove_job()


def stopping() -> World:
    world = training()
    return world.change(runPolicy={"activeDeadlineSeconds": 1})


def retrying() -> World:
    return training().fail(1, message="boom")


def complete() -> World:
    world = publishing()
    world.reserve()
    return world.succeed(success())


def failed() -> World:
    return training().fail(18)


def pending() -> World:
    return World(make_job(suspend=True))


# state: running, ready, reconciling, stalled; what kstatus computes
CASES = [
    pytest.param(rejected, "Rejected", Reason.PROFILE_NOT_FOUND, "False False False True", "Failed", id="Rejected"),
    pytest.param(queued, "Queued", Reason.QUEUED, "False False True False", "InProgress", id="Queued"),
    pytest.param(starting, "Starting", Reason.STARTING, "False False True False", "InProgress", id="Starting"),
    pytest.param(
        running, "Running", Reason.PREPARING, "True False True False", "InProgress", id="Running, not reported"
    ),
    pytest.param(training, "Running", Reason.TRAINING, "True False True False", "InProgress", id="Running"),
    pytest.param(evaluating, "Evaluating", Reason.EVALUATING, "True False True False", "InProgress", id="Evaluating"),
    pytest.param(publishing, "Publishing", Reason.PUBLISHING, "True False True False", "InProgress", id="Publishing"),
    pytest.param(suspending, "Suspending", Reason.SUSPENDING, "False False True False", "InProgress", id="Suspending"),
    pytest.param(suspended, "Suspended", Reason.SUSPENDED, "False False False False", "InProgress", id="Suspended"),
    pytest.param(stopping, "Stopping", Reason.STOPPING, "False False True False", "InProgress", id="Stopping"),
    pytest.param(retrying, "Retrying", Reason.RETRYING, "False False True False", "InProgress", id="Retrying"),
    pytest.param(complete, "Complete", Reason.SUCCEEDED, "False True False False", "Current", id="Complete"),
    pytest.param(failed, "Failed", Reason.LOSS_DIVERGED, "False False False True", "Failed", id="Failed"),
]


@pytest.mark.parametrize(("make", "state", "reason", "truths", "computed"), CASES)
def test_state(make: Callable[[], World], state: JobState, reason: Reason, truths: str, computed: str) -> None:
    world = make()
    status = world.status
    assert status.state == state
    assert " ".join(status.condition(kind).status for kind in ("Running", "Ready", "Reconciling", "Stalled")) == truths
    assert status.condition("Ready").reason == reason
    body = world.job.to_json() | {"apiVersion": API_VERSION, "kind": "FineTuneJob", "status": world.wire}
    assert kstatus(body) == computed


@pytest.mark.parametrize("make", [case.values[0] for case in CASES])
def test_every_condition_is_there_and_says_something(make: Callable[[], World]) -> None:
    world = make()
    assert [condition.type for condition in world.status.conditions] == CONDITIONS
    for condition in world.status.conditions:
        assert condition.message
        assert condition.reason in list(Reason)
        assert condition.observed_generation == world.job.metadata.generation


@pytest.mark.parametrize("make", [case.values[0] for case in CASES])
def test_a_second_look_writes_nothing(make: Callable[[], World]) -> None:
    world = make()
    writes, events = world.writes, len(world.events)
    world.settle()
    assert (world.writes, len(world.events)) == (writes, events)


def said(world: World, kind: str) -> tuple[str, str]:
    condition = world.status.condition(kind)
    return condition.status, condition.reason


@pytest.mark.parametrize(
    ("make", "kind", "expected"),
    [
        pytest.param(starting, "Accepted", ("True", "Accepted"), id="accepted"),
        pytest.param(rejected, "Accepted", ("False", "ProfileNotFound"), id="not accepted"),
        pytest.param(starting, "QuotaReserved", ("Unknown", "NoQueue"), id="no queue"),
        pytest.param(queued, "QuotaReserved", ("False", "Queued"), id="queued"),
        pytest.param(starting, "DataReady", ("Unknown", "Pending"), id="data not looked at"),
        pytest.param(training, "DataReady", ("True", "DataChecked"), id="data checked"),
        pytest.param(starting, "CheckpointAvailable", ("False", "NoCheckpoint"), id="no checkpoint"),
        pytest.param(suspended, "CheckpointAvailable", ("True", "CheckpointCommitted"), id="checkpoint"),
        pytest.param(training, "Evaluated", ("False", "NotFinished"), id="not evaluated"),
        pytest.param(publishing, "Evaluated", ("True", "NoGates"), id="evaluated"),
        pytest.param(starting, "Suspended", ("False", "NotSuspended"), id="not suspended"),
        pytest.param(suspending, "Suspended", ("False", "Suspending"), id="suspending"),
        pytest.param(lambda: suspended().change(suspend=False), "Suspended", ("False", "Resumed"), id="resumed"),
        pytest.param(failed, "Complete", ("False", "LossDiverged"), id="failed, so not complete"),
        pytest.param(training, "Complete", ("False", "NotFinished"), id="not complete"),
        pytest.param(failed, "Failed", ("True", "LossDiverged"), id="failed"),
    ],
)  # fmt: skip
def test_condition(make: Callable[[], World], kind: str, expected: tuple[str, str]) -> None:
    assert said(make(), kind) == expected


def test_quota_is_reserved_while_the_queue_lets_it_run() -> None:
    world = queued()
    world.newest_job()["spec"]["suspend"] = False
    world.run()
    assert said(world, "QuotaReserved") == ("True", "Admitted")


def test_data_that_the_trainer_refuses() -> None:
    world = running().advance(2).say(make_report("Preparing"))
    assert said(world, "DataReady") in (("False", "Preparing"), ("Unknown", "Pending"))
    world.advance(6).fail(12)
    assert said(world, "DataReady") == ("False", "DatasetInvalid")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        pytest.param(rejected, "The user must act: TrainingProfile 'gpu' does not exist", id="rejected"),
        pytest.param(failed, "The user must act: ", id="failed by the user's doing"),
        pytest.param(
            lambda: World(make_job(runPolicy={"maxAttempts": 1})).settle().run().advance(5).fail(30),
            "The platform must act: ",
            id="failed by the platform's doing",
        ),
    ],
)
def test_who_must_act(make: Callable[[], World], words: str) -> None:
    assert make().status.condition("Stalled").message.startswith(words)


def test_a_running_job_whose_spec_has_a_problem_goes_on() -> None:
    world = training().change(budget={"maxCost": 5})
    assert said(world, "Accepted") == ("False", "SpecInvalid")
    assert (world.status.state, world.status.is_true("Stalled")) == ("Running", False)


def test_suspended_with_a_problem_reads_as_suspended() -> None:
    world = pending()
    world.profile = None
    assert world.settle().status.state == "Suspended"
