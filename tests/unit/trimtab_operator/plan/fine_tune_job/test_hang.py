"""Pods that should run and cannot."""

from typing import Any

import pytest
from tests.support.builders import make_job
from tests.support.world import World

from trimtab_operator.api.v1alpha1 import Reason


def pod_condition(kind: str, reason: str = "") -> dict[str, Any]:
    return {"conditions": [{"type": kind, "status": "False", "reason": reason, "message": "0/3 nodes are available."}]}


def waiting(reason: str) -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": "no such thing"}}
    return {"containerStatuses": [{"name": "trainer", "state": state}]}


CASES = [
    pytest.param(pod_condition("PodScheduled", "Unschedulable"), Reason.UNSCHEDULABLE, False, id="no node"),
    pytest.param(waiting("ErrImagePull"), Reason.IMAGE_PULL_FAILED, True, id="ErrImagePull"),
    pytest.param(waiting("ImagePullBackOff"), Reason.IMAGE_PULL_FAILED, True, id="ImagePullBackOff"),
    pytest.param(waiting("InvalidImageName"), Reason.IMAGE_PULL_FAILED, True, id="InvalidImageName"),
    pytest.param(waiting("ErrImageNeverPull"), Reason.IMAGE_PULL_FAILED, True, id="ErrImageNeverPull"),
    pytest.param(
        waiting("CreateContainerConfigError"), Reason.CONTAINER_CREATE_FAILED, True, id="CreateContainerConfigError"
    ),
]


@pytest.mark.parametrize(("status", "reason", "stalled"), CASES)
def test_pod(status: dict[str, Any], reason: Reason, *, stalled: bool) -> None:
    world = World().settle().schedule()
    pod = next(iter(world.pods.values()))
    pod["status"] = {"phase": "Pending", **status}
    world.settle()
    running = world.status.condition("Running")
    assert (running.status, running.reason) == ("False", reason)
    assert world.status.state == "Starting"
    assert world.status.is_true("Stalled") is stalled
    assert world.status.is_true("Reconciling") is not stalled
    assert [event.reason for event in world.events if event.type == "Warning"] == [reason]
    # It is never final, and mended it goes on.
    world.advance(86400)
    assert world.status.state == "Starting"
    world.run()
    assert world.status.state == "Running"
    assert not world.status.is_true("Stalled")


def test_volumes_that_do_not_come() -> None:
    world = World().settle().schedule()
    pod = next(iter(world.pods.values()))
    pod["spec"]["nodeName"] = "node-1"
    pod["status"] = {"phase": "Pending", **pod_condition("PodReadyToStartContainers"), **waiting("ContainerCreating")}
    assert world.advance(30).status.condition("Running").reason == Reason.STARTING
    assert world.plan.requeue_after is not None
    assert world.advance(30).status.condition("Running").reason == Reason.VOLUME_MOUNT_FAILED


def test_a_slow_pull_is_no_hang() -> None:
    world = World().settle().schedule()
    pod = next(iter(world.pods.values()))
    pod["spec"]["nodeName"] = "node-1"
    ready = {"conditions": [{"type": "PodReadyToStartContainers", "status": "True"}]}
    pod["status"] = {"phase": "Pending", **ready, **waiting("ContainerCreating")}
    assert world.advance(600).status.condition("Running").reason == Reason.STARTING


def test_a_job_that_gets_no_pods() -> None:
    world = World().settle()
    assert world.advance(59).status.condition("Running").reason == Reason.STARTING
    assert world.advance(1).status.condition("Running").reason == Reason.POD_REJECTED
    assert "kubectl describe job tone-a1" in world.status.condition("Stalled").message


def test_a_refused_job_is_told_and_made_later() -> None:
    world = World()
    world.refuse["Job"] = (Reason.QUOTA_EXCEEDED, "exceeded quota: compute")
    world.settle()
    assert world.status.condition("Stalled").reason == Reason.QUOTA_EXCEEDED
    assert world.status.state == "Starting"
    world.refuse.clear()
    world.settle()
    assert list(world.jobs) == ["tone-a1"]
    assert not world.status.is_true("Stalled")


def test_one_of_two_pods_hangs() -> None:
    world = World(make_job(distribution={"nodes": 2})).settle().run(2)
    pods = list(world.pods.values())
    pods[1]["status"] = {"phase": "Pending", **pod_condition("PodScheduled", "Unschedulable")}
    world.settle()
    assert world.status.condition("Running").status == "False"
    assert world.status.condition("Running").reason == Reason.UNSCHEDULABLE


@pytest.mark.parametrize("queue", ["research", ""])
def test_a_queued_job_does_not_run(queue: str) -> None:
    world = World(make_job(runPolicy={"queueName": queue})).settle()
    world.newest_job()["spec"]["suspend"] = True
    world.advance(3600)
    assert (world.status.state, world.status.condition("Running").status) == ("Queued", "False")
    world.newest_job()["spec"]["suspend"] = False
    world.newest_job()["status"]["conditions"] = [
        {"type": "Suspended", "status": "False", "lastTransitionTime": "2026-11-21T13:00:00Z"}
    ]
    assert world.settle().status.state == "Starting"
    assert world.run().status.state == "Running"
