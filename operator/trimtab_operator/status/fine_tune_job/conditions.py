"""One function per condition of a FineTuneJob: what is true, why, and what to do."""

from collections.abc import Sequence
from dataclasses import dataclass

from trimtab_operator.api.v1alpha1 import FineTuneJob
from trimtab_operator.api.v1alpha1.fine_tune_job import FineTuneJobStatus
from trimtab_operator.api.v1alpha1.reasons import Reason
from trimtab_operator.state import Course, Problem, Stage
from trimtab_operator.status.conditions import Fact, fact
from trimtab_operator.status.fine_tune_job.situation import Situation, who

_DATA_PROBLEMS = frozenset({Reason.DATASET_NOT_FOUND, Reason.DATASET_INVALID})
_AFTER_DATA = ("Training", "Evaluating", "Publishing", "Finished")
_AFTER_EVALUATION = ("Publishing", "Finished")
_SHOWN_METRICS = 5


@dataclass(frozen=True, slots=True)
class View:
    """Everything that a condition may speak of."""

    job: FineTuneJob
    status: FineTuneJobStatus
    """With everything but conditions and state brought up to date."""
    problems: Sequence[Problem]
    course: Course
    situation: Situation


def facts(view: View) -> list[Fact]:
    """All conditions, in the order in which a job goes through them."""
    return [
        accepted(view),
        quota_reserved(view),
        data_ready(view),
        running(view),
        checkpoint_available(view),
        evaluated(view),
        suspended(view),
        complete(view),
        failed(view),
        ready(view),
        reconciling(view),
        stalled(view),
    ]


def accepted(view: View) -> Fact:
    """Whether spec and profiles fit."""
    if not view.problems:
        return fact("Accepted", holds=True, reason=Reason.ACCEPTED, message="The spec and the profiles it names fit.")
    message = " ".join(problem.message for problem in view.problems)
    return fact("Accepted", holds=False, reason=view.problems[0].reason, message=message)


def quota_reserved(view: View) -> Fact:
    """Whether the queue let the attempt in. Without a queue there is nothing to know."""
    queue, stage = view.job.spec.run_policy.queue_name, view.course.stage
    if not queue:
        message = "runPolicy.queueName names no queue: the pods go straight to the scheduler."
        return fact("QuotaReserved", holds=None, reason=Reason.NO_QUEUE, message=message)
    if stage in (Stage.CLAIMED, Stage.QUEUED):
        message = f"Waiting for quota in queue '{queue}'."
        return fact("QuotaReserved", holds=False, reason=Reason.QUEUED, message=message)
    if stage is Stage.NONE:
        message = "No attempt is open: no quota is held."
        return fact("QuotaReserved", holds=False, reason=view.situation.reason, message=message)
    return fact("QuotaReserved", holds=True, reason=Reason.ADMITTED, message=f"Queue '{queue}' has let the attempt in.")


def data_ready(view: View) -> Fact:
    """Whether the trainer has found the data good."""
    status, attempts = view.status, view.course.attempts
    last = attempts[-1] if attempts else None
    if last is not None and last.reason in _DATA_PROBLEMS:
        return fact("DataReady", holds=False, reason=Reason(last.reason), message=last.message)
    if status.data or status.progress.phase in _AFTER_DATA:
        said = ", ".join(f"{summary.examples} in {summary.split}" for summary in status.data)
        message = f"The data is checked: {said} (examples)." if said else "The data is checked."
        return fact("DataReady", holds=True, reason=Reason.DATA_CHECKED, message=message)
    if status.progress.phase == "Preparing":
        return fact("DataReady", holds=False, reason=Reason.PREPARING, message="The trainer checks the data.")
    return fact("DataReady", holds=None, reason=Reason.PENDING, message="The trainer checks the data when it starts.")


def running(view: View) -> Fact:
    """Whether every pod of the attempt runs and is to run. Queued, suspended, stopping and hanging is not running."""
    situation = view.situation
    holds = situation.state in ("Running", "Evaluating", "Publishing") and not situation.is_stuck
    return fact("Running", holds=holds, reason=situation.reason, message=situation.message)


def checkpoint_available(view: View) -> Fact:
    """Whether a next attempt would continue."""
    last = view.status.last_checkpoint
    if last is None:
        message = "No checkpoint is committed yet: an interrupted run would begin at step 0."
        return fact("CheckpointAvailable", holds=False, reason=Reason.NO_CHECKPOINT, message=message)
    message = f"Step {last.step} of attempt {last.attempt} is committed: {last.uri}"
    return fact("CheckpointAvailable", holds=True, reason=Reason.CHECKPOINT_COMMITTED, message=message)


def evaluated(view: View) -> Fact:
    """Whether the trained model is measured and its gates are judged."""
    status = view.status
    if not view.course.succeeded and status.progress.phase not in _AFTER_EVALUATION:
        message = "The model is measured after training."
        return fact("Evaluated", holds=False, reason=Reason.NOT_FINISHED, message=message)
    said = (
        ", ".join(f"{metric.name}={metric.value}" for metric in status.metrics[:_SHOWN_METRICS])
        or "nothing was reported"
    )
    if not view.job.spec.evaluation.gates:
        message = f"Measured ({said}); evaluation.gates is empty, so nothing stands in the way of promotion."
        return fact("Evaluated", holds=True, reason=Reason.NO_GATES, message=message)
    if not status.gates:
        return fact("Evaluated", holds=True, reason=Reason.EVALUATED, message=f"Measured: {said}.")
    refusing = [gate for gate in status.gates if gate.holds_back]
    verdict = "not promotable" if refusing else "promotable"
    gates = " ".join(f"{gate.phase}: {gate.message}" for gate in refusing or status.gates)
    reason = Reason.NOT_PROMOTABLE if refusing else Reason.EVALUATED
    return fact("Evaluated", holds=True, reason=reason, message=f"The version is {verdict}. {gates}")


def suspended(view: View) -> Fact:
    """Whether the job is at rest on purpose."""
    situation = view.situation
    if situation.state in ("Suspended", "Suspending"):
        holds = situation.state == "Suspended"
        return fact("Suspended", holds=holds, reason=situation.reason, message=situation.message)
    if any(attempt.reason == Reason.SUSPENDED for attempt in view.course.attempts):
        message = "The job was suspended and has been resumed."
        return fact("Suspended", holds=False, reason=Reason.RESUMED, message=message)
    return fact("Suspended", holds=False, reason=Reason.NOT_SUSPENDED, message="spec.suspend is false.")


def complete(view: View) -> Fact:
    """Whether the job is done."""
    return _final(view, "Complete", holds=view.course.succeeded)


def failed(view: View) -> Fact:
    """Whether the job has failed for good."""
    return _final(view, "Failed", holds=view.course.failure is not None)


def ready(view: View) -> Fact:
    """For GitOps: the job is what it should be, done."""
    return fact("Ready", holds=view.course.succeeded, reason=view.situation.reason, message=view.situation.message)


def reconciling(view: View) -> Fact:
    """For GitOps: the job moves by itself."""
    situation = view.situation
    return fact("Reconciling", holds=situation.is_moving, reason=situation.reason, message=situation.message)


def stalled(view: View) -> Fact:
    """For GitOps: nothing moves until a person acts, and who that is."""
    situation = view.situation
    if situation.is_stuck:
        message = f"{who(view.problems, view.course)}: {situation.message}"
        return fact("Stalled", holds=True, reason=situation.reason, message=message)
    return fact("Stalled", holds=False, reason=situation.reason, message="Nobody has to do anything.")


def _final(view: View, kind: str, *, holds: bool) -> Fact:
    if holds or view.course.succeeded or view.course.failure is not None:
        return fact(kind, holds=holds, reason=view.situation.reason, message=view.situation.message)
    return fact(kind, holds=False, reason=Reason.NOT_FINISHED, message="The job has not come to its end.")
