"""Analyses by a Job: when it is made, what its answer does to the canary, and when it goes."""

from typing import Any

import pytest
from tests.support.rollout_world import RolloutWorld, serving, stepping

from trimtab_trainer.contract.canary import CanaryJobConfig

ASKS = {"metric": "exact_match", "data": {"uri": "pvc://rows/held-out.jsonl"}, "examples": 20}
HALF = {"setWeight": 50}


def step(**changes: Any) -> dict[str, Any]:
    metric = {"name": "answers", "provider": {"job": ASKS}, "successCondition": "result >= champion - 0.05"}
    return {"analysis": {"metrics": [metric | changes]}}


def measured(result: float, champion: float = 0.9) -> dict[str, Any]:
    return {"reason": "Succeeded", "gates": [{"result": str(result), "champion": str(champion)}]}


def asking(**changes: Any) -> RolloutWorld:
    return stepping(HALF, step(**changes))


def test_one_job_asks_the_canary_through_its_service() -> None:
    world = asking()
    (job,) = world.jobs.values()
    template = job["spec"]["template"]
    text = template["metadata"]["annotations"]["trimtab.dev/canary-job"]
    config = CanaryJobConfig.model_validate_json(text)
    assert config.endpoint == "http://tone.demo.svc"
    assert (config.canary, config.stable, config.examples) == ("support-tone-v2", "support-tone-v1", 20)
    claims = [each["persistentVolumeClaim"] for each in template["spec"]["volumes"] if "persistentVolumeClaim" in each]
    assert claims == [{"claimName": "rows", "readOnly": True}]
    assert template["metadata"]["labels"]["app.kubernetes.io/component"] == "analysis", "it is no server"
    assert (world.ready[1], world.told) == ("Analyzing", {1: 50, 2: 50})
    assert job["metadata"]["name"] in world.message
    assert list(world.advance(60).jobs.values()) == [job], "a Job at work is waited for"


@pytest.mark.parametrize(
    ("words", "code", "changes", "stable", "reason"),
    [
        pytest.param(measured(0.95), 0, {}, 2, "Stable", id="better"),
        pytest.param(measured(0.2), 0, {}, 1, "AnalysisFailed", id="worse"),
        pytest.param(measured(0.2), 0, {"dryRun": True}, 2, "Stable", id="worse, but dry"),
        pytest.param(measured(0.86), 0, {"failureCondition": "result < 0.5", "successCondition": "result > 0.9"}, 1, "AnalysisInconclusive", id="neither"),
        pytest.param(measured(0.86), 0, {"failureCondition": "result < 0.5", "successCondition": "result > 0.9", "inconclusiveLimit": 1, "count": 1}, 2, "Stable", id="neither, once allowed"),
        pytest.param({"reason": "DatasetNotFound", "message": "gone"}, 11, {"consecutiveErrorLimit": 0}, 1, "AnalysisError", id="no data is an error, not a failure"),
        pytest.param({"reason": "Succeeded", "gates": [{}]}, 0, {"consecutiveErrorLimit": 0}, 1, "AnalysisError", id="no number"),
    ],
)  # fmt: skip
def test_what_its_answer_does(words: dict[str, Any], code: int, changes: dict[str, Any], stable: int, reason: str) -> None:  # fmt: skip
    world = asking(**changes).end_job(words, code=code)
    assert (world.status.stable_version, world.ready[1]) == (stable, reason)
    if reason == "AnalysisFailed":
        assert "result 0.2, champion 0.9" in world.message
        assert world.told == {1: 100}
    if code:
        assert "DatasetNotFound: gone" in world.message


def test_each_measurement_has_a_job_of_its_own() -> None:
    world = asking(count=2, interval="1m").end_job(measured(0.95))
    assert len(world.jobs) == 1, "the next one is not due"
    world.advance(61)
    assert len(world.jobs) == 2
    world.end_job(measured(0.95))
    assert world.status.stable_version == 2


def test_an_error_is_tried_again() -> None:
    world = asking().end_job({"reason": "StorageUnavailable", "message": "away"}, code=30).advance(11)
    assert len(world.jobs) == 2
    assert world.end_job(measured(1.0)).status.stable_version == 2


@pytest.mark.parametrize("action", ["abort", "skip-step"])
def test_a_job_that_nobody_waits_for_goes(action: str) -> None:
    assert asking().act(action).jobs == {}


def test_retry_asks_anew() -> None:
    world = asking(consecutiveErrorLimit=0).end_job({"reason": "TrainerError", "message": "x"}, code=1)
    world.advance(5).act("retry")
    assert len(world.jobs) == 2


def test_a_canary_that_comes_again_is_asked_again() -> None:
    world = asking().end_job(measured(0.2))
    assert world.ready[1] == "AnalysisFailed"
    world.advance(5).act("retry")
    assert len(world.jobs) == 2


def test_a_metric_that_the_task_does_not_have_is_refused_before_anything_moves() -> None:
    world = serving()
    steps = [step(provider={"job": ASKS | {"metric": "accuracy"}})]
    world.change(version=2, strategy={"canary": {"steps": steps}})
    assert world.ready == ("False", "SpecInvalid")
    assert "must be one of exact_match, f1 for the task causalLanguageModeling; got accuracy" in world.message
