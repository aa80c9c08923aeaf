"""What keeps a job from starting, each with its reason and a remedy."""

from typing import Any

import pytest
from tests.support.builders import SETTINGS, make_job, make_profile, make_storage, make_version, observed

from trimtab_operator.api.v1alpha1 import Reason
from trimtab_operator.state import ObservedJob
from trimtab_operator.validation.fine_tune_job.compose import check

ON_VERSION = {"model": {"uri": "modelversion://support-tone-v1"}}
JUDGED = {"objective": {"supervised": None, "grpo": {"rewards": [{"rewardModel": {"uri": "modelversion://judge-v1"}}]}}}
JUDGE = {"task": {"causalLanguageModeling": None, "sequenceClassification": {}}}
NOT_READY = {
    "conditions": [
        {
            "type": "Ready",
            "status": "False",
            "reason": "StorageProfileNotFound",
            "message": "No store.",
            "lastTransitionTime": "2026-11-21T12:00:00Z",
        }
    ]
}


def on_profile(spec: dict[str, Any] | None = None, /, **profile: Any) -> ObservedJob:
    return observed(make_job(**(spec or {})), profile=make_profile(**profile))


CASES = [
    pytest.param(observed(profile=None), Reason.PROFILE_NOT_FOUND, "none is the default", id="no default profile"),
    pytest.param(observed(make_job(profile="gpu"), profile=None), Reason.PROFILE_NOT_FOUND, "'gpu' does not exist", id="unknown profile"),
    pytest.param(observed(storage=None), Reason.STORAGE_PROFILE_NOT_FOUND, "none is the default", id="no default storage"),
    pytest.param(observed(make_job(storage="x"), storage=None), Reason.STORAGE_PROFILE_NOT_FOUND, "'x' does not exist", id="unknown storage"),
    pytest.param(on_profile(allowed={"tasks": ["sequenceClassification"]}), Reason.PROFILE_NOT_ALLOWED, "task causalLanguageModeling; it allows sequenceClassification", id="task"),
    pytest.param(on_profile(allowed={"methods": ["full"]}), Reason.PROFILE_NOT_ALLOWED, "method lora; it allows full", id="method"),
    pytest.param(on_profile(allowed={"modelURIs": ["hf://our-org/"]}), Reason.PROFILE_NOT_ALLOWED, "it allows hf://our-org/...", id="model"),
    pytest.param(on_profile({"distribution": {"nodes": 3}}, limits={"maxNodes": 2}), Reason.PROFILE_NOT_ALLOWED, "spec.distribution.nodes must be at most 2", id="nodes"),
    pytest.param(on_profile({"distribution": {"acceleratorsPerNode": 1}}, limits={"maxAcceleratorsPerNode": 0}), Reason.PROFILE_NOT_ALLOWED, "must be at most 0", id="accelerators"),
    pytest.param(on_profile({"distribution": {"acceleratorsPerNode": 1}}, acceleratorResource=""), Reason.PROFILE_NOT_ALLOWED, "has no accelerators", id="no accelerators"),
    pytest.param(on_profile({"data": {"maxSequenceLength": 4096}}, limits={"maxSequenceLength": 512}), Reason.PROFILE_NOT_ALLOWED, "data.maxSequenceLength must be at most 512", id="sequence length"),
    pytest.param(on_profile({"runPolicy": {"activeDeadlineSeconds": 99}}, limits={"maxActiveDeadlineSeconds": 9}), Reason.PROFILE_NOT_ALLOWED, "activeDeadlineSeconds must be at most 9", id="deadline"),
    pytest.param(on_profile({"budget": {"maxCost": 5}}), Reason.SPEC_INVALID, "budget.maxCost needs a price", id="cost without price"),
    pytest.param(on_profile(resources={"limits": {"memory": "much"}}), Reason.CONFIG_INVALID, "spec.resources.limits.memory: 'much' is not a quantity", id="quantity"),
    pytest.param(on_profile(scratchSize="big"), Reason.CONFIG_INVALID, "spec.scratchSize", id="scratch size"),
    pytest.param(observed(make_job(**ON_VERSION)), Reason.MODEL_VERSION_NOT_FOUND, "'support-tone-v1' does not exist in this namespace", id="unknown version"),
    pytest.param(observed(make_job(**ON_VERSION), base_version=make_version(status=NOT_READY)), Reason.MODEL_VERSION_NOT_READY, "No store.", id="version not ready"),
    pytest.param(observed(make_job(**ON_VERSION), base_version=make_version(storage="other")), Reason.SPEC_INVALID, "spec.storage: other", id="version out of reach"),
    pytest.param(observed(make_job(**JUDGED)), Reason.MODEL_VERSION_NOT_FOUND, "'judge-v1' does not exist", id="unknown reward model"),
    pytest.param(observed(make_job(**JUDGED), reward_version=make_version(status=NOT_READY, **JUDGE)), Reason.MODEL_VERSION_NOT_READY, "No store.", id="reward model not ready"),
    pytest.param(observed(make_job(**JUDGED), reward_version=make_version(storage="other", **JUDGE)), Reason.SPEC_INVALID, "spec.storage: other", id="reward model out of reach"),
    pytest.param(observed(make_job(**JUDGED), reward_version=make_version()), Reason.SPEC_INVALID, "a reward model is a sequence classifier", id="a writer as reward model"),
    pytest.param(observed(make_job(**JUDGED), reward_version=make_version(**JUDGE), profile=make_profile(allowed={"modelURIs": ["s3://models/"]})), Reason.PROFILE_NOT_ALLOWED, "rewardModel.uri modelversion://judge-v1", id="reward model that the profile does not allow"),
    pytest.param(observed(make_job(evaluation={"gates": [{"metric": "loss", "successCondition": "result < best"}]})), Reason.SPEC_INVALID, "spec.evaluation.gates[0].successCondition: `result < best` names 'best'", id="unreadable gate"),
]  # fmt: skip


@pytest.mark.parametrize(("world", "reason", "words"), CASES)
def test_problem(world: ObservedJob, reason: Reason, words: str) -> None:
    problems = check(world, settings=SETTINGS)
    assert [problem.reason for problem in problems] == [reason]
    assert words in problems[0].message


@pytest.mark.parametrize(
    "world",
    [
        pytest.param(observed(), id="the smallest job"),
        pytest.param(on_profile({"budget": {"maxCost": 5}}, pricePerHour=1), id="cost with a price"),
        pytest.param(on_profile(allowed={"methods": ["lora"], "tasks": ["causalLanguageModeling"], "modelURIs": ["s3://models/"]}), id="all allowed"),
        pytest.param(observed(make_job(**ON_VERSION), base_version=make_version()), id="on a version"),
        pytest.param(observed(make_job(**JUDGED), reward_version=make_version(**JUDGE)), id="with a reward model"),
    ],
)  # fmt: skip
def test_nothing_is_wrong(world: ObservedJob) -> None:
    assert check(world, settings=SETTINGS) == ()


def test_a_job_that_has_started_keeps_its_profile() -> None:
    resolved = {"profileName": "gone", "profile": {}, "storageName": "gone", "storage": make_storage().spec.to_json()}
    job = make_job(status={"resolved": resolved})
    assert check(observed(job, profile=None, storage=None), settings=SETTINGS) == ()


def test_a_job_at_rest_asks_for_nothing() -> None:
    done = {
        "type": "Complete",
        "status": "True",
        "reason": "Succeeded",
        "message": "",
        "lastTransitionTime": "2026-11-21T12:00:00Z",
    }
    job = make_job(status={"conditions": [done]})
    assert check(observed(job, profile=None, storage=None), settings=SETTINGS) == ()
