from typing import Any

import pytest
from tests.support.rollouts import SETTINGS, make_rollout, make_version, observed

from trimtab_operator.state import ObservedRollout
from trimtab_operator.validation.model_rollout.compose import check


def condition(kind: str, status: str, message: str = "") -> dict[str, Any]:
    return {
        "type": kind,
        "status": status,
        "reason": "NotVerified",
        "message": message,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }


SLOW = {"name": "slow", "provider": {"server": {"metric": "latencySeconds"}}, "failureCondition": "result >"}
VLLM = make_rollout({"spec.serving": {"vllm": {"image": "vllm:1"}}})
UNREADABLE = {"canary": {"steps": [{"analysis": {"metrics": [SLOW]}}]}}


@pytest.mark.parametrize(
    ("world", "reasons", "says"),
    [
        pytest.param(observed(), [], "", id="all is well"),
        pytest.param(
            observed(versions=(make_version(2), make_version(12))),
            ["ModelVersionNotFound"],
            "'support-tone-v1' does not exist in this namespace: set spec.version to one of 2, 12",
            id="version not published",
        ),
        pytest.param(
            observed(versions=()), ["ModelVersionNotFound"], "no version of this model exists yet", id="no version"
        ),
        pytest.param(
            observed(versions=(make_version(1, conditions=[]),)),
            ["NotVerified"],
            "not been looked at yet",
            id="new version",
        ),
        pytest.param(
            observed(
                versions=(make_version(1, conditions=[condition("Verified", "False", "File a has other bytes.")]),)
            ),
            ["NotVerified"],
            "File a has other bytes.",
            id="bytes do not match",
        ),
        pytest.param(
            observed(versions=(make_version(1, conditions=[condition("Verified", "Unknown")]),)),
            [],
            "",
            id="import nobody read back",
        ),
        pytest.param(
            observed(
                versions=(
                    make_version(
                        1, conditions=[condition("Verified", "True"), condition("Promotable", "False", "Gate x.")]
                    ),
                )
            ),
            ["NotPromotable"],
            "Gate x.",
            id="gate failed",
        ),
        pytest.param(
            observed(versions=(make_version(1, {"spec.artifact.format": "ensemble"}),)),
            ["SpecInvalid"],
            "spec.artifact.format must be peftAdapter or safetensors, not ensemble",
            id="format",
        ),
        pytest.param(
            observed(versions=(make_version(1, {"spec.task": None}),)),
            ["SpecInvalid"],
            "spec.task must say",
            id="import without a task",
        ),
        pytest.param(
            observed(versions=(make_version(1, {"spec.task": {"questionAnswering": {}}}),)),
            ["SpecInvalid"],
            "no endpoint for the task questionAnswering; it has them for causalLanguageModeling, sequenceClassification",
            id="a task without an endpoint",
        ),
        pytest.param(
            observed(rollout=VLLM, versions=(make_version(1, {"spec.artifact.format": "safetensors"}),)),
            ["SpecInvalid"],
            "cannot be served by serving.vllm: spec.artifact.format must be peftAdapter, not safetensors",
            id="vLLM with a whole model",
        ),
        pytest.param(
            observed(rollout=VLLM, versions=(make_version(1, {"spec.task": {"sequenceClassification": {}}}),)),
            ["SpecInvalid"],
            "the router before vLLM has no endpoint for the task sequenceClassification",
            id="vLLM with a classifier",
        ),
        pytest.param(observed(rollout=VLLM), [], "", id="vLLM"),
        pytest.param(
            observed(rollout=VLLM, profile=None),
            ["ProfileNotFound"],
            "in spec.serving.vllm.profile",
            id="vLLM without a profile",
        ),
        pytest.param(
            observed(versions=(make_version(1, {"spec.baseModel.uri": "modelversion://a-v1"}),)),
            ["SpecInvalid"],
            "must name the model itself",
            id="base model is a version",
        ),
        pytest.param(
            observed(versions=(make_version(1, {"spec.baseModel.uri": "https://a/b"}),)),
            ["SpecInvalid"],
            "spec.baseModel.uri",
            id="base model elsewhere",
        ),
        pytest.param(
            observed(profile=None, rollout=make_rollout({"spec.serving": {"builtin": {"profile": "big"}}})),
            ["ProfileNotFound"],
            "TrainingProfile 'big' does not exist",
            id="profile gone",
        ),
        pytest.param(observed(profile=None), ["ProfileNotFound"], "none is the default", id="no profile"),
        pytest.param(observed(storage=None), ["StorageProfileNotFound"], "StorageProfile 'default'", id="storage gone"),
        pytest.param(
            observed(storage=None, profile=None),
            ["ProfileNotFound", "StorageProfileNotFound"],
            "",
            id="everything is said at once",
        ),
        pytest.param(
            observed(rollout=make_rollout({"spec.strategy": UNREADABLE})),
            ["SpecInvalid"],
            "spec.strategy.canary.steps[0].analysis: failureCondition of metric slow: `result >` is no expression",
            id="condition that cannot be read",
        ),
    ],
)
def test_check(world: ObservedRollout, reasons: list[str], says: str) -> None:
    problems = check(world, settings=SETTINGS)
    assert [problem.reason for problem in problems] == reasons
    assert says in " ".join(problem.message for problem in problems)


def test_only_the_platform_can_bring_a_store_back() -> None:
    assert [problem.who for problem in check(observed(storage=None), settings=SETTINGS)] == ["platform"]
