from typing import Any

import pytest
from tests.support.rollouts import (
    SETTINGS,
    live_deployment,
    make_rollout,
    make_version,
    observed,
    plan_for,
    pod,
    unschedulable_pod,
)
from tests.support.times import NOW

from trimtab_operator.api.v1alpha1 import ModelRollout, Reason
from trimtab_operator.state import ObservedRollout, Outcome, Plan, Problem, RejectedWrite
from trimtab_operator.status.model_rollout.compose import compute_status
from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.messages import TerminationMessage

ONE = observed()
TWO_VERSIONS = (make_version(1), make_version(2, {"spec.baseModel.uri": "s3://models/other"}))
FROM_1_TO_2 = observed(rollout=make_rollout({"spec.version": 2}, stable=1), versions=TWO_VERSIONS)
"""To another base model: by new servers. How traffic moves between versions of one is in plan/model_rollout/test_course.py."""
AGAIN = observed(rollout=make_rollout(stable=1))
VLLM = observed(rollout=make_rollout({"spec.serving": {"vllm": {"image": "vllm:1"}}}))
NOT_FOUND = Problem(Reason.MODEL_VERSION_NOT_FOUND, "Version 7 does not exist.")
REFUSED = Problem(Reason.NOT_PROMOTABLE, "Gate x failed.")


def with_servers(world: ObservedRollout, *, pods: tuple[Any, ...] = (), **deployment: Any) -> ObservedRollout:
    deployed = live_deployment(world, **deployment)
    return observed(rollout=world.rollout, versions=world.versions, deployment=deployed, pods=pods)


def crashed(message: str, *, restarts: int = 1, code: int = 1, reason: str = "Error") -> dict[str, Any]:
    ended = {"exitCode": code, "reason": reason, "message": message}
    return {
        "restartCount": restarts,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": ended},
    }


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"state": {"waiting": {"reason": reason, "message": message}}}


def in_vllm(container: dict[str, Any]) -> dict[str, Any]:
    """A server whose router runs, and vLLM beside it does not."""
    manifest = pod(VLLM)
    manifest["status"]["containerStatuses"].append({"name": "vllm", "restartCount": 0} | container)
    return manifest


def last_words(reason: TrainerReason, message: str) -> str:
    return TerminationMessage(reason=reason, message=message).model_dump_json(by_alias=True)


def status_of(world: ObservedRollout, *, problems: tuple[Problem, ...] = (), plan: Plan | None = None) -> Outcome:
    chosen = plan_for(world) if plan is None and not problems else plan or Plan()
    return compute_status(world, problems, chosen, settings=SETTINGS, now=NOW)


def said(outcome: Outcome) -> dict[str, str]:
    return {condition["type"]: condition["status"] for condition in outcome.status["conditions"]}


def ready(outcome: Outcome) -> tuple[str, str]:
    condition = next(condition for condition in outcome.status["conditions"] if condition["type"] == "Ready")
    return condition["reason"], condition.get("message", "")


OLD = pod(ONE, "old", ready=True)
TERMINATION = last_words(TrainerReason.DIGEST_MISMATCH, "adapter.safetensors has other bytes.")


@pytest.mark.parametrize(
    ("world", "state", "reason", "says", "trio"),
    [
        pytest.param(ONE, "Progressing", "Progressing", "Starting version 1: 0 of 1", "FTF", id="nothing yet"),
        pytest.param(
            with_servers(ONE, pods=(pod(ONE),)),
            "Progressing",
            "Progressing",
            "Starting version 1: 0 of 1",
            "FTF",
            id="first server starts",
        ),
        pytest.param(
            with_servers(AGAIN, ready=1, pods=(pod(ONE, ready=True),)),
            "Stable",
            "Stable",
            "Version 1 of support-tone serves: 1 of 1",
            "TFF",
            id="all servers are ready",
        ),
        pytest.param(
            with_servers(ONE, ready=1, observedGeneration=0, pods=(OLD,)),
            "Progressing",
            "Progressing",
            "",
            "FTF",
            id="the Deployment controller has not looked yet",
        ),
        pytest.param(
            with_servers(FROM_1_TO_2, ready=1, total=2, pods=(OLD, pod(FROM_1_TO_2, "new"))),
            "Progressing",
            "Progressing",
            "New servers start for version 2, which has another base model",
            "FTF",
            id="the next version starts",
        ),
        pytest.param(
            with_servers(FROM_1_TO_2, ready=2, total=2, pods=(OLD, pod(FROM_1_TO_2, "new", ready=True))),
            "Progressing",
            "Progressing",
            "New servers start for version 2",
            "FTF",
            id="the old server is not gone yet",
        ),
        pytest.param(
            with_servers(FROM_1_TO_2, ready=1, total=2, pods=(OLD, pod(FROM_1_TO_2, "new", **crashed(TERMINATION)))),
            "Degraded",
            "ServerCrashing",
            "Server new ends with DigestMismatch: adapter.safetensors has other bytes. Version 1 goes on serving.",
            "FFT",
            id="a version whose bytes are wrong",
        ),
        pytest.param(
            with_servers(ONE, pods=(pod(ONE, **crashed("Traceback: boom")),)),
            "Unavailable",
            "ServerCrashing",
            "exit code 1: Traceback: boom",
            "FTF",
            id="first crash",
        ),
        pytest.param(
            with_servers(ONE, pods=(pod(ONE, **crashed("boom", restarts=2)),)),
            "Unavailable",
            "ServerCrashing",
            "boom",
            "FFT",
            id="crash loop",
        ),
        pytest.param(
            with_servers(ONE, pods=(pod(ONE, **crashed(last_words(TrainerReason.STORAGE_UNAVAILABLE, "503"))),)),
            "Unavailable",
            "ServerCrashing",
            "StorageUnavailable: 503",
            "FTF",
            id="the store is away",
        ),
        pytest.param(
            with_servers(ONE, pods=(pod(ONE, **crashed("", code=137, reason="OOMKilled")),)),
            "Unavailable",
            "ServerCrashing",
            "raise serverResources.limits.memory",
            "FFT",
            id="out of memory",
        ),
        pytest.param(
            with_servers(VLLM, pods=(in_vllm(crashed("", code=137, reason="OOMKilled")),)),
            "Unavailable",
            "ServerCrashing",
            "raise spec.serving.vllm.resources.limits.memory",
            "FFT",
            id="vLLM out of memory",
        ),
        pytest.param(
            with_servers(VLLM, pods=(in_vllm(crashed("CUDA out of memory", restarts=3)),)),
            "Unavailable",
            "ServerCrashing",
            "Container vllm of pod tone-server-abc-1 ended with exit code 1: CUDA out of memory",
            "FFT",
            id="vLLM that ends",
        ),
        pytest.param(
            with_servers(VLLM, pods=(in_vllm(waiting("ImagePullBackOff", "gone")),)),
            "Unavailable",
            "ImagePullFailed",
            "Mend spec.serving.vllm.image",
            "FFT",
            id="vLLM image that is not there",
        ),
        pytest.param(
            with_servers(ONE, pods=(pod(ONE, **crashed("still loading", code=137)),)),
            "Unavailable",
            "ServerCrashing",
            "was killed, not for its memory limit: it did not start, answer or stop in time: still loading",
            "FTF",
            id="a start that takes too long",
        ),
        pytest.param(
            with_servers(ONE, pods=(pod(ONE, **waiting("ErrImagePull", "not found")),)),
            "Unavailable",
            "ImagePullFailed",
            "not found",
            "FTF",
            id="first failed pull",
        ),
        pytest.param(
            with_servers(
                FROM_1_TO_2, ready=1, total=2, pods=(OLD, pod(FROM_1_TO_2, "new", **waiting("ImagePullBackOff")))
            ),
            "Degraded",
            "ImagePullFailed",
            "Mend serverImage",
            "FFT",
            id="image that is not there",
        ),
        pytest.param(
            with_servers(ONE, pods=(pod(ONE, **waiting("CreateContainerConfigError", "no such key")),)),
            "Unavailable",
            "ContainerCreateFailed",
            "no such key",
            "FFT",
            id="container cannot be made",
        ),
        pytest.param(
            with_servers(
                ONE, pods=(pod(ONE, **waiting("CreateContainerConfigError", 'secret "trimtab-store" not found')),)
            ),
            "Unavailable",
            "StorageSecretMissing",
            "with the keys AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, in this namespace",
            "FFT",
            id="no Secret",
        ),
        pytest.param(
            with_servers(ONE, pods=(unschedulable_pod(ONE),)),
            "Unavailable",
            "Unschedulable",
            "Insufficient memory",
            "FTF",
            id="no room",
        ),
        pytest.param(
            with_servers(
                ONE,
                pods=(unschedulable_pod(ONE),),
                conditions=[{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}],
            ),
            "Unavailable",
            "Unschedulable",
            "Insufficient memory",
            "FFT",
            id="no room for too long",
        ),
        pytest.param(
            with_servers(
                ONE,
                pods=(pod(ONE),),
                conditions=[{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}],
            ),
            "Unavailable",
            "NotAvailable",
            "progress deadline",
            "FFT",
            id="never ready",
        ),
        pytest.param(
            with_servers(
                ONE, conditions=[{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: small"}]
            ),
            "Unavailable",
            "QuotaExceeded",
            "exceeded quota: small",
            "FFT",
            id="quota",
        ),
        pytest.param(
            with_servers(
                ONE, conditions=[{"type": "ReplicaFailure", "status": "True", "message": "violates PodSecurity"}]
            ),
            "Unavailable",
            "PodRejected",
            "violates PodSecurity",
            "FFT",
            id="pods refused",
        ),
        pytest.param(
            with_servers(AGAIN, pods=(pod(ONE),)),
            "Unavailable",
            "NotAvailable",
            "No server of version 1 is ready at the moment",
            "FTF",
            id="the only server went away",
        ),
        pytest.param(
            with_servers(AGAIN, ready=1, total=2, pods=(OLD, pod(ONE))),
            "Progressing",
            "Progressing",
            "Renewing the servers of version 1: 1 of 1",
            "FTF",
            id="the same version with other resources",
        ),
    ],
)
def test_state(world: ObservedRollout, state: str, reason: str, says: str, trio: str) -> None:
    outcome = status_of(world)
    assert outcome.status["state"] == state
    assert ready(outcome)[0] == reason
    assert says in ready(outcome)[1]
    conditions = said(outcome)
    assert "".join(conditions[kind][0] for kind in ("Ready", "Reconciling", "Stalled")) == trio
    assert conditions["Accepted"] == "True"
    assert outcome.status["observedGeneration"] == 3


@pytest.mark.parametrize(
    ("world", "problem", "state", "trio", "available"),
    [
        pytest.param(ONE, NOT_FOUND, "Pending", "FTF", "False", id="waits for its version"),
        pytest.param(ONE, REFUSED, "Rejected", "FFT", "False", id="may not serve"),
        pytest.param(
            with_servers(AGAIN, ready=1, pods=(OLD,)),
            NOT_FOUND,
            "Degraded",
            "FTF",
            "True",
            id="waits, the old version serves",
        ),
        pytest.param(
            with_servers(AGAIN, ready=1, pods=(OLD,)),
            REFUSED,
            "Degraded",
            "FFT",
            "True",
            id="may not serve, the old version does",
        ),
    ],
)
def test_problems(world: ObservedRollout, problem: Problem, state: str, trio: str, available: str) -> None:
    outcome = status_of(world, problems=(problem,))
    assert outcome.status["state"] == state
    conditions = said(outcome)
    assert "".join(conditions[kind][0] for kind in ("Ready", "Reconciling", "Stalled")) == trio
    assert (conditions["Accepted"], conditions["Available"]) == ("False", available)
    assert problem.message in ready(outcome)[1]
    assert "canaryVersion" not in outcome.status


def test_a_refused_child_is_told() -> None:
    rejected = RejectedWrite(Reason.NAME_CONFLICT, "Service 'tone' belongs to somebody else.", "Service", NOW)
    outcome = status_of(observed(rejected=rejected))
    assert (outcome.status["state"], ready(outcome)[0]) == ("Unavailable", "NameConflict")


@pytest.mark.parametrize(
    ("world", "stable", "canary"),
    [
        pytest.param(ONE, None, None, id="nothing yet"),
        pytest.param(
            with_servers(ONE, ready=1, pods=(OLD,)), None, None, id="ready, but nobody said with which version"
        ),
        pytest.param(with_servers(AGAIN, ready=1, pods=(OLD,)), 1, None, id="stable"),
        pytest.param(
            with_servers(FROM_1_TO_2, ready=1, total=2, pods=(OLD, pod(FROM_1_TO_2, "new"))), 1, 2, id="moving"
        ),
    ],
)
def test_versions(world: ObservedRollout, stable: int | None, canary: int | None) -> None:
    status = status_of(world).status
    assert (status.get("stableVersion"), status.get("canaryVersion")) == (stable, canary)


def test_the_address() -> None:
    assert "url" not in status_of(ONE).status
    assert status_of(with_servers(ONE, ready=1)).status["url"] == "http://tone.demo.svc"


def test_a_second_look_writes_nothing_and_says_nothing() -> None:
    world = with_servers(AGAIN, ready=1, pods=(pod(ONE, ready=True),))
    first = status_of(world)
    body = {**world.rollout.to_json(), "status": first.status}
    again = observed(rollout=ModelRollout.parse(body), deployment=world.deployment, pods=world.pods)
    second = compute_status(again, (), plan_for(again), settings=SETTINGS, now=NOW.replace(hour=9))
    assert second.status == first.status
    assert second.events == ()


@pytest.mark.parametrize(
    ("world", "problems", "events"),
    [
        pytest.param(ONE, (), [("Normal", "Progressing")], id="begins"),
        pytest.param(with_servers(AGAIN, ready=1, pods=(OLD,)), (), [("Normal", "Stable")], id="serves"),
        pytest.param(ONE, (NOT_FOUND,), [("Normal", "ModelVersionNotFound")], id="waits"),
        pytest.param(ONE, (REFUSED,), [("Warning", "NotPromotable")], id="refused"),
        pytest.param(
            with_servers(ONE, pods=(pod(ONE, **crashed("x")),)), (), [("Warning", "ServerCrashing")], id="crashes"
        ),
    ],
)
def test_events(world: ObservedRollout, problems: tuple[Problem, ...], events: list[tuple[str, str]]) -> None:
    outcome = status_of(world, problems=problems)
    assert [(event.type, event.reason) for event in outcome.events] == events
