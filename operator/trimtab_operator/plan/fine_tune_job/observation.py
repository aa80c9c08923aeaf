"""Jobs and Pods of the API server as typed values: parsed once, here, then trusted."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from trimtab_operator import names
from trimtab_operator.api.times import parse_time
from trimtab_operator.plan.fine_tune_job.failure_policy import CONTAINER
from trimtab_operator.state import Manifest, ObjectRef
from trimtab_trainer.contract.messages import TerminationMessage

_INDEX = "batch.kubernetes.io/job-completion-index"
_EXIT_CODE = re.compile(r"failed with exit code (\d+)")


@dataclass(frozen=True, slots=True)
class Fact:
    """A condition of a Job or Pod."""

    status: str
    reason: str
    message: str
    since: datetime | None


@dataclass(frozen=True, slots=True)
class Terminated:
    """How the trainer container ended."""

    exit_code: int
    reason: str
    text: str
    """The termination message, or the end of the log where there is none."""
    started_at: datetime | None
    finished_at: datetime | None

    @property
    def message(self) -> TerminationMessage | None:
        """The trainer's last words, when they are ours."""
        try:
            return TerminationMessage.model_validate_json(self.text, extra="ignore")
        except ValidationError:
            return None


@dataclass(frozen=True, slots=True)
class TrainerPod:
    """One pod of an attempt."""

    name: str
    index: int
    node: str
    phase: str
    reason: str
    message: str
    created_at: datetime | None
    deleted_at: datetime | None
    """When its grace period is over, if it is being deleted."""
    conditions: dict[str, Fact]
    waiting: tuple[str, str] | None
    """Reason and message of a container that waits."""
    running_since: datetime | None
    terminated: Terminated | None
    image_id: str

    @property
    def has_ended(self) -> bool:
        """Whether nothing of it runs any more."""
        return self.phase in ("Succeeded", "Failed") or self.terminated is not None

    @property
    def started_at(self) -> datetime | None:
        """When its trainer began to run."""
        return self.terminated.started_at if self.terminated else self.running_since

    @property
    def is_ready(self) -> bool:
        """Whether it runs, or has done its part."""
        if self.has_ended:
            return self.terminated.exit_code == 0 if self.terminated else self.phase == "Succeeded"
        return self.running_since is not None


@dataclass(frozen=True, slots=True)
class TrainerJob:
    """The Job of one attempt."""

    ref: ObjectRef
    attempt: int
    created_at: datetime | None
    is_deleting: bool
    is_suspended: bool
    conditions: dict[str, Fact]

    def fact(self, *types: str) -> Fact | None:
        """The first of these conditions that is True."""
        return next(
            (
                self.conditions[name]
                for name in types
                if name in self.conditions and self.conditions[name].status == "True"
            ),
            None,
        )

    @property
    def has_ended(self) -> bool:
        """Whether it is terminal and all of its pods are."""
        return self.fact("Complete", "Failed") is not None

    @property
    def exit_code(self) -> int | None:
        """The exit code that its failure policy noted."""
        failed = self.fact("Failed", "FailureTarget")
        match = _EXIT_CODE.search(failed.message) if failed else None
        return int(match[1]) if match else None


def parse_job(manifest: Manifest) -> TrainerJob:
    """Read a batch/v1 Job."""
    metadata, spec = manifest["metadata"], manifest.get("spec", {})
    return TrainerJob(
        ref=ObjectRef(
            api_version="batch/v1",
            kind="Job",
            namespace=metadata.get("namespace", ""),
            name=metadata["name"],
            uid=metadata.get("uid", ""),
            resource_version=metadata.get("resourceVersion", ""),
        ),
        attempt=_number(metadata.get("labels", {}).get(names.ATTEMPT_LABEL)),
        created_at=_time(metadata.get("creationTimestamp")),
        is_deleting="deletionTimestamp" in metadata,
        is_suspended=bool(spec.get("suspend")),
        conditions=_conditions(manifest),
    )


def parse_pod(manifest: Manifest) -> TrainerPod:
    """Read a trainer pod."""
    metadata, status = manifest["metadata"], manifest.get("status", {})
    containers = status.get("containerStatuses") or []
    container: Manifest = next((found for found in containers if found.get("name") == CONTAINER), {})
    state = container.get("state", {})
    index = metadata.get("annotations", {}).get(_INDEX) or metadata.get("labels", {}).get(_INDEX)
    waiting = state.get("waiting")
    return TrainerPod(
        name=metadata["name"],
        index=_number(index),
        node=manifest.get("spec", {}).get("nodeName", ""),
        phase=status.get("phase", ""),
        reason=status.get("reason", ""),
        message=status.get("message", ""),
        created_at=_time(metadata.get("creationTimestamp")),
        deleted_at=_time(metadata.get("deletionTimestamp")),
        conditions=_conditions(manifest),
        waiting=(waiting.get("reason", ""), waiting.get("message", "")) if waiting else None,
        running_since=_time(state.get("running", {}).get("startedAt")),
        terminated=_terminated(state.get("terminated")),
        image_id=container.get("imageID", ""),
    )


def pods_of(job: TrainerJob, pods: tuple[Manifest, ...]) -> tuple[TrainerPod, ...]:
    """The pods that this Job controls, the main one first."""
    owned = [parse_pod(pod) for pod in pods if _is_owned(pod, job.ref.uid)]
    return tuple(sorted(owned, key=lambda pod: (pod.index, pod.name)))


def _is_owned(pod: Manifest, uid: str) -> bool:
    owners = pod["metadata"].get("ownerReferences", [])
    return any(owner.get("uid") == uid and owner.get("controller") for owner in owners)


def _conditions(manifest: Manifest) -> dict[str, Fact]:
    return {
        condition["type"]: Fact(
            status=condition.get("status", ""),
            reason=condition.get("reason", ""),
            message=condition.get("message", ""),
            since=_time(condition.get("lastTransitionTime")),
        )
        for condition in manifest.get("status", {}).get("conditions", [])
    }


def _terminated(state: dict[str, Any] | None) -> Terminated | None:
    if state is None:
        return None
    return Terminated(
        exit_code=int(state.get("exitCode", 0)),
        reason=state.get("reason", ""),
        text=state.get("message", ""),
        started_at=_time(state.get("startedAt")),
        finished_at=_time(state.get("finishedAt")),
    )


def _time(text: str | None) -> datetime | None:
    return parse_time(text) if text else None


def _number(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else 0
