"""The API server stores a status exactly as the operator writes it: nothing is refused, pruned or added, so nothing is written twice."""

from collections.abc import Callable

import pytest
from tests.support.builders import checkpoint, make_job, make_profile, make_report, success
from tests.support.cluster import Api
from tests.support.manifests import smallest
from tests.support.world import World


def training() -> World:
    data = [{"split": "train", "examples": 9, "tokens": 100}]
    datasets = [{"uri": "s3://data/train.jsonl", "digest": "sha256:1", "examples": 9}]
    world = World(profile=make_profile(pricePerHour=1.5, watts=90, carbonIntensity=350)).settle().advance(1).run()
    said = {
        "step": 10,
        "totalSteps": 60,
        "epoch": 0.5,
        "percent": 16,
        "etaSeconds": 90,
        "tokensPerSecond": 81.25,
        "loss": 1e-05,
    }
    world.advance(6).say(
        make_report(
            progress=said, data=data, datasets=datasets, checkpoints=[checkpoint(10)], warnings=["3 examples are empty"]
        )
    )
    return world


def complete() -> World:
    world = training()
    world.reserve()
    return world.advance(6).succeed(success())


def retrying() -> World:
    return training().fail(1, message="boom " * 1000)


def rejected() -> World:
    world = World(make_job(profile="gpu"))
    world.profile = None
    return world.settle()


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: World().settle(), id="Starting"),
        pytest.param(training, id="Running"),
        pytest.param(lambda: training().change(suspend=True).remove_job(), id="Suspended"),
        pytest.param(retrying, id="Retrying"),
        pytest.param(rejected, id="Rejected"),
        pytest.param(complete, id="Complete"),
        pytest.param(lambda: training().fail(12), id="Failed"),
    ],
)
def test_status_is_stored_as_it_is(api: Api, namespace: str, make: Callable[[], World]) -> None:
    status = make().wire
    job = smallest("FineTuneJob", namespace=namespace)
    # An operator that happens to run beside the tests leaves this one alone.
    job["spec"]["managedBy"] = "tests.example/none"
    created = api.create(job)
    stored = api.replace_status(created | {"status": status})
    assert stored["status"] == status
