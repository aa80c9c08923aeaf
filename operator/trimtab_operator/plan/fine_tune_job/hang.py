"""Pods that should run and cannot: what keeps them, and how to mend it. None of it is final; the mended pod starts by itself."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from trimtab_operator import names
from trimtab_operator.api.v1alpha1.reasons import Reason
from trimtab_operator.plan.fine_tune_job.observation import TrainerJob, TrainerPod
from trimtab_operator.state import Problem

PATIENCE = timedelta(seconds=60)
"""A Job normally has its pods, and a pod its volumes and network, within a few seconds."""


def find_hang(job: TrainerJob, pods: Sequence[TrainerPod], *, now: datetime) -> Problem | None:
    """The first pod that hangs, in the order of their indices."""
    if not pods:
        return _no_pods(job, now=now)
    return next((problem for pod in pods if (problem := _pod_hang(pod, now=now)) is not None), None)


def look_again(job: TrainerJob, pods: Sequence[TrainerPod], *, now: datetime) -> timedelta | None:
    """When patience ends: nothing would wake us then."""
    since = [pod.created_at for pod in pods if not pod.is_ready] if pods else [job.created_at]
    waits = [time + PATIENCE - now for time in since if time is not None]
    return min((wait for wait in waits if wait > timedelta(0)), default=None)


def _no_pods(job: TrainerJob, *, now: datetime) -> Problem | None:
    started = job.conditions.get("Suspended")
    since = started.since if started and started.status == "False" else job.created_at
    if since is None or now - since < PATIENCE:
        return None
    return Problem(
        Reason.POD_REJECTED,
        f"Job {job.ref.name} gets no pods: a ResourceQuota, a LimitRange, Pod Security or an admission webhook refuses them. "
        f"`kubectl describe job {job.ref.name}` shows the refusal; the pods start once it is mended.",
    )


def _pod_hang(pod: TrainerPod, *, now: datetime) -> Problem | None:
    if pod.is_ready or pod.has_ended or pod.deleted_at is not None:
        return None
    scheduled = pod.conditions.get("PodScheduled")
    if scheduled is not None and scheduled.status == "False" and scheduled.reason == "Unschedulable":
        return Problem(
            Reason.UNSCHEDULABLE,
            f"Pod {pod.name} fits on no node: {scheduled.message} It starts as soon as a node has room; "
            "if none ever will, name another TrainingProfile.",
            who="platform",
        )
    reason, message = pod.waiting or ("", "")
    if reason in names.IMAGE_PULL_FAILURES:
        return Problem(
            Reason.IMAGE_PULL_FAILED,
            f"Pod {pod.name} cannot pull its image ({reason}): {message} Mend the image or imagePullSecrets of the "
            "TrainingProfile, or the registry; the kubelet tries again by itself.",
            who="platform",
        )
    if reason in names.CONTAINER_CREATE_FAILURES:
        return Problem(
            Reason.CONTAINER_CREATE_FAILED,
            f"Pod {pod.name} cannot make its container ({reason}): {message} `kubectl describe pod {pod.name}` shows more.",
            who="platform",
        )
    return _not_set_up(pod, now=now)


def _not_set_up(pod: TrainerPod, *, now: datetime) -> Problem | None:
    """The sandbox is made after the volumes are mounted. Pulling an image comes later and may take its time."""
    sandbox = pod.conditions.get("PodReadyToStartContainers")
    if not pod.node or pod.created_at is None or now - pod.created_at < PATIENCE:
        return None
    if sandbox is None or sandbox.status != "False":
        return None
    return Problem(
        Reason.VOLUME_MOUNT_FAILED,
        f"Pod {pod.name} on node {pod.node} waits for its volumes or its network for more than a minute: "
        f"`kubectl describe pod {pod.name}` shows what is missing, for example a claim of a pvc:// URI.",
        who="platform",
    )
