"""Where the newest attempt stands, and how it ended."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from trimtab_operator.api.v1alpha1.fine_tune_job import Attempt
from trimtab_operator.api.v1alpha1.reasons import Reason
from trimtab_operator.plan.fine_tune_job import hang, restart
from trimtab_operator.plan.fine_tune_job.evidence import Cause, last_words, pod_cause, root_cause
from trimtab_operator.plan.fine_tune_job.observation import TrainerJob, TrainerPod, parse_job, pods_of
from trimtab_operator.state import ObservedJob, Problem, Stage
from trimtab_trainer.contract.messages import TerminationMessage

SETTLING = timedelta(seconds=10)
"""Jobs and Pods come by two watches: a Job may be seen to end before its pods are."""
OVERDUE = timedelta(seconds=60)
"""A pod that is still there so long after its grace period has no kubelet to end it: its node is lost."""
_SOON = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class Assessment:
    """What an open attempt looks like."""

    stage: Stage
    cause: Cause | None = None
    """How it ended; None while it goes on."""
    hang: Problem | None = None
    job: TrainerJob | None = None
    pods: tuple[TrainerPod, ...] = ()
    look_again: timedelta | None = None

    @property
    def started_at(self) -> datetime | None:
        """When its first pod ran."""
        return min((pod.started_at for pod in self.pods if pod.started_at is not None), default=None)

    @property
    def termination(self) -> TerminationMessage | None:
        """Last words of the main pod."""
        return last_words(self.pods)


def assess(observed: ObservedJob, attempt: Attempt, *, now: datetime) -> Assessment:
    """Look at the attempt's Job and pods."""
    jobs = [parse_job(manifest) for manifest in observed.trainer_jobs]
    job = next((job for job in jobs if job.attempt == attempt.number), None)
    if job is None:
        return _without_job(attempt)
    pods = pods_of(job, observed.pods)
    profile = observed.profile_spec
    assessment = _with_job(job, pods, attempt, is_custom=bool(profile and profile.command), now=now)
    return replace(assessment, job=job, pods=pods)


def _without_job(attempt: Attempt) -> Assessment:
    if not attempt.job_uid and attempt.start_time is None:
        return Assessment(Stage.CLAIMED)
    return Assessment(Stage.NONE, Cause(Reason.POD_DELETED, f"Job {attempt.job_name} was deleted."))


def _with_job(
    job: TrainerJob, pods: tuple[TrainerPod, ...], attempt: Attempt, *, is_custom: bool, now: datetime
) -> Assessment:
    if job.has_ended and not (job.is_deleting and job.fact("Failed")):
        return _ended(job, pods, is_custom=is_custom, now=now)
    lost = next((pod for pod in pods if _is_overdue(pod, now=now)), None)
    if lost is not None:
        message = (
            f"Node {lost.node} does not end pod {lost.name}, which should have gone a minute ago: the node is lost."
        )
        return Assessment(Stage.NONE, Cause(Reason.NODE_LOST, message, lost.deleted_at, lost.node))
    if job.is_deleting:
        return _deleting(pods, is_custom=is_custom, now=now)
    if job.is_suspended:
        return _suspended(job, pods, attempt, now=now)
    return _going_on(job, pods, now=now)


def _going_on(job: TrainerJob, pods: tuple[TrainerPod, ...], *, now: datetime) -> Assessment:
    if _is_over(pods) or job.fact("FailureTarget", "SuccessCriteriaMet"):
        return Assessment(Stage.ENDING, look_again=_until_overdue(pods, now=now))
    if pods and all(pod.is_ready for pod in pods):
        return Assessment(Stage.RUNNING, look_again=_until_overdue(pods, now=now))
    found, again = hang.find_hang(job, pods, now=now), hang.look_again(job, pods, now=now)
    return Assessment(Stage.STARTING, hang=found, look_again=again)


def _ended(job: TrainerJob, pods: tuple[TrainerPod, ...], *, is_custom: bool, now: datetime) -> Assessment:
    end = job.fact("Complete", "Failed")
    settled = bool(pods) and all(pod.has_ended for pod in pods)
    if not settled and end is not None and end.since is not None and now - end.since < SETTLING:
        return Assessment(Stage.ENDING, look_again=_SOON)
    if job.fact("Complete"):
        return Assessment(Stage.NONE, _success(pods, at=end.since if end else None))
    cause = root_cause(job, pods, is_custom=is_custom)
    # A queue that suspends a Job ends its pods with SIGTERM, and the failure policy ends the Job with them.
    return Assessment(
        Stage.NONE, _taken_back(job) if job.is_suspended and cause.reason in restart.DISRUPTIONS else cause
    )


def _deleting(pods: tuple[TrainerPod, ...], *, is_custom: bool, now: datetime) -> Assessment:
    """Somebody stops it, mostly us: it has ended when the Job is gone, and its pods and their resources with it.

    It may have finished all the same, or have failed for good; then that is what counts.
    """
    words = last_words(pods)
    if words is not None and words.reason == "Succeeded":
        return Assessment(Stage.NONE, _success(pods, at=None))
    causes = [cause for pod in pods if (cause := pod_cause(pod, is_custom=is_custom)) is not None]
    final = next((cause for cause in causes if restart.is_final(cause.reason)), None)
    if final is not None:
        return Assessment(Stage.NONE, final)
    return Assessment(Stage.ENDING, look_again=_until_overdue(pods, now=now))


def _suspended(job: TrainerJob, pods: tuple[TrainerPod, ...], attempt: Attempt, *, now: datetime) -> Assessment:
    """A queue took the quota back. A Job that has run is not run again: the next attempt has its own number, the fence."""
    if attempt.start_time is None and not pods:
        return Assessment(Stage.QUEUED)
    if any(not pod.has_ended for pod in pods):
        return Assessment(Stage.ENDING, look_again=_until_overdue(pods, now=now))
    return Assessment(Stage.NONE, _taken_back(job))


def _taken_back(job: TrainerJob) -> Cause:
    message = f"The queue took back the quota of Job {job.ref.name}; the next attempt queues anew."
    return Cause(Reason.PREEMPTED, message, counts=False)


def _success(pods: Sequence[TrainerPod], *, at: datetime | None) -> Cause:
    finished = [pod.terminated.finished_at for pod in pods if pod.terminated and pod.terminated.finished_at]
    return Cause(Reason.SUCCEEDED, "The trainer succeeded.", max(finished, default=at))


def _is_over(pods: Sequence[TrainerPod]) -> bool:
    """One lost pod ends an attempt. One that succeeded does not: the main pod measures and publishes after the others."""
    return any(pod.has_ended and not pod.is_ready for pod in pods) or (
        bool(pods) and all(pod.has_ended for pod in pods)
    )


def _is_overdue(pod: TrainerPod, *, now: datetime) -> bool:
    return pod.deleted_at is not None and not pod.has_ended and now - pod.deleted_at > OVERDUE


def _until_overdue(pods: Sequence[TrainerPod], *, now: datetime) -> timedelta | None:
    waits = [pod.deleted_at + OVERDUE - now for pod in pods if pod.deleted_at is not None and not pod.has_ended]
    return min((max(wait, timedelta(0)) + _SOON for wait in waits), default=None)
