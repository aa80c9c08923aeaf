"""How an attempt ended: from pods and the Job's condition to one reason. Never from memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from trimtab_operator.api.v1alpha1.reasons import Reason
from trimtab_operator.plan.fine_tune_job.observation import Terminated, TrainerJob, TrainerPod
from trimtab_trainer.contract.exit_codes import REASON_OF, ExitCode
from trimtab_trainer.contract.messages import TerminationMessage

_LOG_CHARACTERS = 400
_DISRUPTION_OF = {
    "PreemptionByScheduler": Reason.PREEMPTED,
    "DeletionByTaintManager": Reason.NODE_LOST,
    "DeletionByDeviceTaintManager": Reason.NODE_LOST,
    "DeletionByPodGC": Reason.NODE_LOST,
    "EvictionByEvictionAPI": Reason.EVICTED,
    "TerminationByKubelet": Reason.EVICTED,
}
"""Reasons of the pod condition DisruptionTarget."""
_POD_REASON_OF = {
    "Evicted": Reason.EVICTED,
    "Preempting": Reason.PREEMPTED,
    "NodeLost": Reason.NODE_LOST,
    "NodeShutdown": Reason.NODE_LOST,
    "Shutdown": Reason.NODE_LOST,
    "Terminated": Reason.NODE_LOST,
}
"""`status.reason` of a pod that the kubelet or the node controller ended."""
_STORAGE_LIMITS = ("Usage of EmptyDir volume", "ephemeral local storage", "exceeds its local ephemeral storage limit")
_ECHOES = frozenset({Reason.PEER_LOST, Reason.INTERRUPTED})
"""What the other pods of an attempt say when one of them is lost: never the cause when there is another."""
_CREATE_FAILED = frozenset({"StartError", "ContainerCannotRun", "ContainerStatusUnknown"})


@dataclass(frozen=True, slots=True)
class Cause:
    """Why an attempt ended, as one reason and a sentence."""

    reason: Reason
    message: str
    at: datetime | None = None
    node: str = ""
    counts: bool = True
    """Whether the attempt may count against runPolicy.maxAttempts."""


def root_cause(job: TrainerJob, pods: Sequence[TrainerPod], *, is_custom: bool) -> Cause:
    """The earliest cause that is no echo of another; what the Job's condition says where the pods are gone."""
    causes = [cause for pod in pods if (cause := pod_cause(pod, is_custom=is_custom)) is not None]
    if causes:
        return min(causes, key=lambda cause: (cause.reason in _ECHOES, cause.at or datetime.max.replace(tzinfo=UTC)))
    return _job_cause(job, is_custom=is_custom)


def pod_cause(pod: TrainerPod, *, is_custom: bool) -> Cause | None:
    """Why this pod ended, or None when it lives or succeeded. What the trainer says about itself outranks what befell the pod."""
    ended = pod.terminated
    if ended is not None and ended.exit_code == ExitCode.SUCCEEDED:
        return None
    at = ended.finished_at if ended else None
    said = _said(ended, is_custom=is_custom) if ended else None
    if said is not None and said.reason is not Reason.INTERRUPTED:
        return Cause(said.reason, said.message, at, pod.node)
    happened = _disruption(pod)
    if happened is not None:
        return Cause(happened.reason, happened.message, at or happened.at, pod.node)
    if ended is None:
        return (
            Cause(Reason.TRAINER_ERROR, _failed_without_a_word(pod), None, pod.node) if pod.phase == "Failed" else None
        )
    return Cause(*_by_exit_code(pod, ended, is_custom=is_custom), at, pod.node)


def last_words(pods: Sequence[TrainerPod]) -> TerminationMessage | None:
    """The termination message of the main pod."""
    main = next((pod for pod in pods if pod.index == 0 and pod.terminated is not None), None)
    return main.terminated.message if main and main.terminated else None


def _said(ended: Terminated, *, is_custom: bool) -> Cause | None:
    message = None if is_custom and ended.exit_code == ExitCode.SUCCEEDED else ended.message
    if message is None or message.reason == "Succeeded":
        return None
    return Cause(Reason(message.reason.value), message.message or f"The trainer ended with {message.reason.value}.")


def _disruption(pod: TrainerPod) -> Cause | None:
    if pod.reason == "Evicted" and any(words in pod.message for words in _STORAGE_LIMITS):
        # Evicted for its own use of the disk: on any node, again and again.
        return Cause(
            Reason.WILL_NOT_FIT,
            f"The scratch volume is too small: {pod.message} Raise scratchSize in the TrainingProfile.",
        )
    target = pod.conditions.get("DisruptionTarget")
    if target is not None and target.status == "True":
        reason = _DISRUPTION_OF.get(target.reason, Reason.EVICTED)
        return Cause(
            reason,
            f"Pod {pod.name} lost its place on node {pod.node} ({target.reason}): {target.message}",
            target.since,
        )
    if pod.reason in _POD_REASON_OF:
        return Cause(_POD_REASON_OF[pod.reason], f"Pod {pod.name} on node {pod.node}: {pod.message or pod.reason}")
    return None


def _by_exit_code(pod: TrainerPod, ended: Terminated, *, is_custom: bool) -> tuple[Reason, str]:
    code = ended.exit_code
    if ended.reason == "OOMKilled":
        return Reason.OUT_OF_MEMORY, (
            f"Pod {pod.name} used more memory than its limit: lower training.microBatchSize or data.maxSequenceLength, "
            "or name a TrainingProfile with more memory."
        )
    if ended.reason in _CREATE_FAILED:
        return (
            Reason.CONTAINER_CREATE_FAILED,
            f"Pod {pod.name} could not run its command: {_tail(ended.text) or ended.reason}",
        )
    if pod.deleted_at is not None:
        return Reason.POD_DELETED, f"Pod {pod.name} was deleted while it ran."
    if code == ExitCode.INTERRUPTED:
        return Reason.INTERRUPTED, f"Pod {pod.name} got SIGTERM from outside."
    if code == ExitCode.OUT_OF_MEMORY:
        return (
            Reason.TRAINER_ERROR,
            f"Pod {pod.name} was killed (SIGKILL), not for its memory limit: {_tail(ended.text) or 'no log'}",
        )
    reason = (
        Reason.TRAINER_ERROR
        if is_custom
        else Reason(REASON_OF[code].value)
        if code in REASON_OF
        else Reason.TRAINER_ERROR
    )
    return (
        reason,
        f"Pod {pod.name} ended with exit code {code}: {_tail(ended.text) or 'it left no message; see its log'}",
    )


def _job_cause(job: TrainerJob, *, is_custom: bool) -> Cause:
    """The pods are gone; the failure policy left a note."""
    failed = job.fact("Failed", "FailureTarget")
    at, code = (failed.since if failed else None), job.exit_code
    if failed is not None and "has condition DisruptionTarget" in failed.message:
        return Cause(Reason.EVICTED, f"A pod lost its place and is gone: {failed.message}", at)
    if code == ExitCode.INTERRUPTED:
        return Cause(Reason.INTERRUPTED, "A pod got SIGTERM from outside and is gone.", at)
    if code is not None and code in REASON_OF and code != ExitCode.OUT_OF_MEMORY and not is_custom:
        return Cause(
            Reason(REASON_OF[code].value),
            f"A pod ended with exit code {code} and is gone, and its message with it.",
            at,
        )
    said = f"{failed.reason}: {failed.message}" if failed else "no condition says why"
    return Cause(Reason.TRAINER_ERROR, f"Job {job.ref.name} failed and its pods are gone ({said}).", at)


def _failed_without_a_word(pod: TrainerPod) -> str:
    return (
        f"Pod {pod.name} failed before its container ran: {pod.message or pod.reason or 'the kubelet gives no reason'}"
    )


def _tail(text: str) -> str:
    """The end of a log, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= _LOG_CHARACTERS else f"...{line[-_LOG_CHARACTERS:]}"
