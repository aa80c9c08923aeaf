from typing import Any

import pytest
from tests.support import gateway
from tests.support.kserve import NAME, SERVING, inference_service, whole
from tests.support.rollouts import SETTINGS, make_rollout, make_version, observed

from trimtab_operator.api.v1alpha1 import ModelRollout, ModelVersion, Reason
from trimtab_operator.state import ObservedInference, ObservedRollout, ObservedRoute, Problem
from trimtab_operator.validation.model_rollout.compose import check


def condition(kind: str, status: str, message: str = "") -> dict[str, Any]:
    return {
        "type": kind,
        "status": status,
        "reason": "NotVerified",
        "message": message,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }


UNKNOWN = [condition("Verified", "Unknown")]
SLOW = {"name": "slow", "provider": {"server": {"metric": "latencySeconds"}}, "failureCondition": "result >"}
VLLM = make_rollout({"spec.serving": {"vllm": {"image": "vllm:1"}}})
READABLE = {"canary": {"steps": [{"analysis": {"metrics": [SLOW | {"failureCondition": "result > 1"}]}}]}}
HALF = {"canary": {"steps": [{"setWeight": 50}]}}
QUESTIONS: dict[str, Any] = {"questionAnswering": {}}
LENGTH = {"name": "length", "provider": {"server": {"metric": "answerTokens"}}, "failureCondition": "result > 9"}
ASKS = {"job": {"metric": "f1", "data": {"uri": "s3://data/test.jsonl"}}}
ASKED = {"canary": {"steps": [{"analysis": {"metrics": [{**LENGTH, "provider": ASKS}]}}]}}
LENGTHS = {"canary": {"steps": [{"setWeight": 10}, {"analysis": {"metrics": [LENGTH]}}]}}
UNREADABLE = {"canary": {"steps": [{"analysis": {"metrics": [SLOW]}}]}}


def gateway_rollout(changes: dict[str, Any] | None = None, *, stable: int | None = None) -> ModelRollout:
    return make_rollout({"spec.serving": gateway.SERVING} | (changes or {}), stable=stable)


def behind_gateway(**parts: Any) -> ObservedRollout:
    found = {"rollout": gateway_rollout(), "versions": (whole(1), whole(2)), "route": ObservedRoute()}
    return observed(**found | parts)


def kserve_rollout(changes: dict[str, Any] | None = None, *, stable: int | None = None) -> ModelRollout:
    return make_rollout({"spec.serving": SERVING} | (changes or {}), stable=stable)


def on_kserve(*, body: dict[str, Any] | None = None, problem: Problem | None = None, **parts: Any) -> ObservedRollout:
    found = body or inference_service()
    found["metadata"]["uid"] = "isvc-1"
    inference = ObservedInference(NAME, None if problem else found, problem)
    return observed(**{"rollout": kserve_rollout(), "versions": (whole(1), whole(2)), "inference": inference} | parts)


def unverified(number: int) -> ModelVersion:
    version = whole(number)
    status = version.status.model_copy(update={"conditions": make_version(conditions=UNKNOWN).status.conditions})
    return version.model_copy(update={"status": status})


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
            "spec.artifact.format must be peftAdapter or peftPrompt or trimtabAdapter or safetensors, not ensemble",
            id="format",
        ),
        pytest.param(
            observed(versions=(make_version(1, {"spec.task": None}),)),
            ["SpecInvalid"],
            "spec.task must say",
            id="import without a task",
        ),
        pytest.param(
            observed(versions=(make_version(1, {"spec.task": QUESTIONS, "spec.artifact.format": "trimtabAdapter"}),)),
            [],
            "",
            id="another task and another kind of adapter",
        ),
        pytest.param(
            observed(
                versions=(make_version(1, {"spec.task": QUESTIONS}),), rollout=make_rollout({"spec.strategy": LENGTHS})
            ),
            ["SpecInvalid"],
            "metric length asks for answerTokens, which is counted for generated text; models of the task questionAnswering have",
            id="a metric that nobody counts",
        ),
        pytest.param(
            observed(
                versions=(make_version(1, {"spec.task": QUESTIONS}),), rollout=make_rollout({"spec.strategy": ASKED})
            ),
            ["SpecInvalid"],
            "cannot ask models of the task questionAnswering, only of causalLanguageModeling, sequenceClassification",
            id="a Job for a task that it cannot ask",
        ),
        pytest.param(
            observed(rollout=VLLM, versions=(make_version(1, {"spec.artifact.format": "safetensors"}),)),
            ["NotCompatible"],
            "support-tone-v1 is a whole model: name the Gateways in spec.serving.vllm.gateway.parentRefs",
            id="vLLM with a whole model and no Gateway",
        ),
        pytest.param(
            behind_gateway(versions=(make_version(1),)),
            ["NotCompatible"],
            "support-tone-v1 is peftAdapter, and spec.serving.vllm.gateway is for whole models",
            id="a Gateway and an adapter",
        ),
        pytest.param(
            behind_gateway(versions=(make_version(1, {"spec.artifact.format": "peftPrompt"}),)),
            ["NotCompatible", "SpecInvalid"],
            "cannot be served by serving.vllm: spec.artifact.format must be peftAdapter or safetensors, not peftPrompt",
            id="a Gateway and a prefix",
        ),
        pytest.param(behind_gateway(), [], "", id="a Gateway and a whole model"),
        pytest.param(
            behind_gateway(
                versions=(whole(1), whole(2, **{"spec.baseModel.uri": "s3://models/other"})),
                rollout=gateway_rollout({"spec.version": 2, "spec.strategy": HALF}, stable=1),
            ),
            [],
            "",
            id="whole models of different base models in steps",
        ),
        pytest.param(
            behind_gateway(
                route=ObservedRoute(problem=Problem(Reason.GATEWAY_API_NOT_INSTALLED, "Install Gateway API."))
            ),
            ["GatewayAPINotInstalled"],
            "Install Gateway API.",
            id="no Gateway API",
        ),
        pytest.param(
            observed(rollout=VLLM, versions=(make_version(1, {"spec.task": {"sequenceClassification": {}}}),)),
            ["SpecInvalid"],
            "the router before vLLM has no endpoint for the task sequenceClassification",
            id="vLLM with a classifier",
        ),
        pytest.param(observed(rollout=VLLM), [], "", id="vLLM"),
        pytest.param(on_kserve(profile=None, storage=None), [], "", id="KServe needs no profiles of ours"),
        pytest.param(
            on_kserve(versions=(whole(1, **{"spec.artifact.format": "peftAdapter"}),)),
            ["SpecInvalid"],
            "cannot be served by serving.kserve: spec.artifact.format must be safetensors, not peftAdapter",
            id="KServe with an adapter",
        ),
        pytest.param(
            on_kserve(versions=(unverified(1),)),
            ["NotVerified"],
            "kubectl annotate mdv support-tone-v1 trimtab.dev/verify=1",
            id="KServe checks no bytes",
        ),
        pytest.param(
            on_kserve(
                body=inference_service(mode="Standard"),
                rollout=kserve_rollout({"spec.version": 2, "spec.strategy": HALF}, stable=1),
            ),
            ["NotCompatible"],
            "is in the deployment mode Standard, which does not divide traffic",
            id="KServe's Standard mode has no steps",
        ),
        pytest.param(
            on_kserve(body=inference_service(mode="Standard"), rollout=kserve_rollout({"spec.version": 2}, stable=1)),
            [],
            "",
            id="KServe's Standard mode without steps",
        ),
        pytest.param(
            on_kserve(rollout=kserve_rollout({"spec.strategy": READABLE})),
            ["SpecInvalid"],
            "metric slow asks servers of Trimtab",
            id="KServe is measured by Prometheus",
        ),
        pytest.param(
            on_kserve(problem=Problem(Reason.KSERVE_NOT_INSTALLED, "Install KServe.", who="platform")),
            ["KServeNotInstalled"],
            "Install KServe.",
            id="no KServe",
        ),
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
