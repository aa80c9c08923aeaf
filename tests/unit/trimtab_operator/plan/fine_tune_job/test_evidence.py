"""How an attempt ended: every failure class, as a reason."""

from typing import Any

import pytest
from tests.support.builders import make_job, make_profile
from tests.support.world import World

from trimtab_operator.api.v1alpha1 import Reason
from trimtab_trainer.contract.exit_codes import REASON_OF, ExitCode
from trimtab_trainer.contract.messages import TerminationMessage


def running_world(**spec: Any) -> World:
    return World(make_job(runPolicy={"maxAttempts": 9}, **spec)).settle().advance(1).run().advance(10)


def last_ended(world: World) -> Any:
    return next(attempt for attempt in reversed(world.status.attempts) if attempt.end_time)


def words(reason: str, message: str = "what to do") -> str:
    return TerminationMessage.model_validate({"reason": reason, "message": message}).model_dump_json(by_alias=True)


def disrupted(reason: str) -> dict[str, Any]:
    return {
        "conditions": [{"type": "DisruptionTarget", "status": "True", "reason": reason, "message": "the node says so"}]
    }


CASES = [
    pytest.param({"code": 12, "message": words("DatasetInvalid")}, Reason.DATASET_INVALID, id="the trainer says it"),
    pytest.param({"code": 12}, Reason.DATASET_INVALID, id="exit code alone"),
    pytest.param({"code": 1, "message": "Traceback: boom"}, Reason.TRAINER_ERROR, id="a crash"),
    pytest.param({"code": 139}, Reason.TRAINER_ERROR, id="a segmentation fault"),
    pytest.param({"code": 137, "reason": "OOMKilled"}, Reason.OUT_OF_MEMORY, id="OOMKilled"),
    pytest.param({"code": 137}, Reason.TRAINER_ERROR, id="SIGKILL that is not for memory"),
    pytest.param({"code": 137, "message": words("OutOfMemory")}, Reason.OUT_OF_MEMORY, id="accelerator out of memory"),
    pytest.param({"code": 143}, Reason.INTERRUPTED, id="SIGTERM from outside"),
    pytest.param({"code": 30, "message": words("StorageUnavailable")}, Reason.STORAGE_UNAVAILABLE, id="store away"),
    pytest.param({"code": 31}, Reason.PEER_LOST, id="peer lost"),
    pytest.param(
        {"code": 128, "reason": "StartError", "message": "exec: not found"},
        Reason.CONTAINER_CREATE_FAILED,
        id="no command",
    ),
    pytest.param({"code": 143, **disrupted("PreemptionByScheduler")}, Reason.PREEMPTED, id="preempted"),
    pytest.param({"code": 143, **disrupted("EvictionByEvictionAPI")}, Reason.EVICTED, id="drained"),
    pytest.param({"code": 137, **disrupted("TerminationByKubelet")}, Reason.EVICTED, id="node pressure"),
    pytest.param({"code": 143, **disrupted("DeletionByTaintManager")}, Reason.NODE_LOST, id="tainted"),
    pytest.param({"code": 137, **disrupted("DeletionByPodGC")}, Reason.NODE_LOST, id="orphaned"),
    pytest.param({"code": 12, **disrupted("EvictionByEvictionAPI")}, Reason.EVICTED, id="exit code while evicted"),
    pytest.param(
        {"code": 12, "message": words("DatasetInvalid"), **disrupted("EvictionByEvictionAPI")},
        Reason.DATASET_INVALID,
        id="the trainer's own word outranks an eviction",
    ),
]


@pytest.mark.parametrize(("how", "reason"), CASES)
def test_pod(how: dict[str, Any], reason: Reason) -> None:
    attempt = last_ended(running_world().fail(**how))
    assert attempt.reason == reason
    assert attempt.message


@pytest.mark.parametrize("code", [code for code in ExitCode if code is not ExitCode.SUCCEEDED])
def test_every_reason_of_the_trainer_is_one_of_ours(code: ExitCode) -> None:
    attempt = last_ended(running_world().fail(code, message=words(REASON_OF[code].value)))
    assert attempt.reason == REASON_OF[code].value


@pytest.mark.parametrize(
    ("pod", "reason"),
    [
        pytest.param({"reason": "Evicted", "message": "The node was low on resource: memory."}, Reason.EVICTED, id="low on memory"),
        pytest.param(
            {"reason": "Evicted", "message": 'Usage of EmptyDir volume "scratch" exceeds the limit "10Gi".'},
            Reason.WILL_NOT_FIT,
            id="scratch too small",
        ),
        pytest.param({"reason": "NodeLost", "message": "Node is gone"}, Reason.NODE_LOST, id="node controller"),
        pytest.param({"reason": "Terminated", "message": "Pod was terminated in response to imminent node shutdown."}, Reason.NODE_LOST, id="shutdown"),
        pytest.param({"reason": "UnexpectedAdmissionError", "message": "no devices"}, Reason.TRAINER_ERROR, id="refused by the kubelet"),
    ],
)  # fmt: skip
def test_pod_that_the_kubelet_failed(pod: dict[str, str], reason: Reason) -> None:
    world = running_world()
    found = next(iter(world.pods.values()))
    found["status"] = {"phase": "Failed", **pod}
    assert last_ended(world.end_job()).reason == reason


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        pytest.param("Container trainer for pod demo/x failed with exit code 12 matching FailJob rule at index 1", Reason.DATASET_INVALID, id="exit code"),
        pytest.param("Container trainer for pod demo/x failed with exit code 143 matching FailJob rule at index 2", Reason.INTERRUPTED, id="SIGTERM"),
        pytest.param("Container trainer for pod demo/x failed with exit code 137 matching FailJob rule at index 2", Reason.TRAINER_ERROR, id="SIGKILL: memory or not, nobody knows"),
        pytest.param("Pod demo/x has condition DisruptionTarget matching FailJob rule at index 0", Reason.EVICTED, id="disruption"),
        pytest.param("Job has reached the specified backoff limit", Reason.TRAINER_ERROR, id="no note"),
    ],
)  # fmt: skip
def test_pods_that_are_gone(message: str, reason: Reason) -> None:
    world = running_world()
    world.pods.clear()
    world.end_job(message=message)
    assert world.status.open_attempt.number == 1, "the pods may only not have been seen yet"
    world.advance(11)
    assert last_ended(world).reason == reason


def test_echoes_are_not_the_cause() -> None:
    world = World(make_job(distribution={"nodes": 2})).settle().advance(1).run(2).advance(5)
    world.end_pod(31, index=0, message=words("PeerLost"))
    world.now = world.now.replace(second=59)
    world.end_pod(137, index=1, reason="OOMKilled").end_job()
    assert last_ended(world).reason == Reason.OUT_OF_MEMORY


def test_the_earliest_cause_counts() -> None:
    world = World(make_job(distribution={"nodes": 2})).settle().advance(1).run(2).advance(5)
    world.end_pod(30, index=1, message=words("StorageUnavailable"))
    world.now = world.now.replace(second=59)
    world.end_pod(1, index=0).end_job()
    assert last_ended(world).reason == Reason.STORAGE_UNAVAILABLE


def test_deleted_pod() -> None:
    world = running_world()
    pod = next(iter(world.pods.values()))
    pod["metadata"]["deletionTimestamp"] = "2026-11-21T12:00:30Z"
    assert last_ended(world.fail(143)).reason == Reason.POD_DELETED


def test_deleted_job() -> None:
    world = running_world()
    world.pods.clear()
    world.jobs.clear()
    assert last_ended(world.settle()).reason == Reason.POD_DELETED
    assert world.status.attempts[-1].number == 2


def test_exit_codes_of_a_custom_trainer_are_its_own() -> None:
    world = World(profile=make_profile(command=["python", "own.py"])).settle().advance(1).run().advance(5)
    world.fail(12, message="bad input")
    assert last_ended(world).reason == Reason.TRAINER_ERROR
    assert "bad input" in last_ended(world).message


def test_a_long_log_is_cut_from_the_front() -> None:
    message = last_ended(running_world().fail(1, message="x" * 5000 + " the end")).message
    assert message.endswith("the end")
    assert len(message) < 600
