"""The one answer to "what is going on": the conditions and the word for humans are told from it."""

from collections.abc import Sequence
from dataclasses import dataclass

from trimtab_operator.api.v1alpha1 import FineTuneJob
from trimtab_operator.api.v1alpha1.fine_tune_job import Attempt, FineTuneJobStatus, JobState
from trimtab_operator.api.v1alpha1.reasons import Reason
from trimtab_operator.state import Course, Problem, Stage

_PHASES: dict[str, tuple[JobState, Reason, str]] = {
    "": ("Running", Reason.PREPARING, "The trainer has started and has not reported yet."),
    "Preparing": ("Running", Reason.PREPARING, "The trainer fetches and checks model and data."),
    "Training": ("Running", Reason.TRAINING, "The trainer trains."),
    "Evaluating": ("Evaluating", Reason.EVALUATING, "The trainer measures the trained model."),
    "Publishing": ("Publishing", Reason.PUBLISHING, "The trainer uploads and verifies the model."),
    "Finished": ("Publishing", Reason.PUBLISHING, "The trainer is done; its result is being recorded."),
}


@dataclass(frozen=True, slots=True)
class Situation:
    """Where the job is, why, and whether it moves by itself."""

    state: JobState
    reason: Reason
    message: str
    is_moving: bool = True
    """Something will happen without a person."""
    is_stuck: bool = False
    """Only a person can help."""


def find_situation(
    job: FineTuneJob, status: FineTuneJobStatus, problems: Sequence[Problem], course: Course
) -> Situation:
    """Judge by the attempts, from the end of the job backwards."""
    if course.succeeded:
        message = "The custom trainer has finished; it publishes no ModelVersion."
        if status.model_version:
            message = f"Trained, measured and published as ModelVersion '{status.model_version}'."
        return Situation("Complete", Reason.SUCCEEDED, message, is_moving=False)
    if course.failure is not None:
        failure = course.failure
        return Situation("Failed", failure.reason, failure.message, is_moving=False, is_stuck=True)
    if course.stage is Stage.NONE:
        return _between(job, status, problems, course)
    if problems and course.stage is Stage.CLAIMED:
        return _rejected(problems)
    return _in_attempt(job, status, course)


def who(problems: Sequence[Problem], course: Course) -> str:
    """Who must act, for messages."""
    problem = course.failure or course.hang or (problems[0] if problems else None)
    return "The platform must act" if problem is not None and problem.who == "platform" else "The user must act"


def _between(job: FineTuneJob, status: FineTuneJobStatus, problems: Sequence[Problem], course: Course) -> Situation:
    """No attempt is open."""
    if job.spec.suspend:
        saved = status.last_checkpoint
        where = f"at step {saved.step}, which is committed" if saved else "before a checkpoint was committed"
        message = f"Suspended {where}; no pod runs. Set spec.suspend to false to continue."
        return Situation("Suspended", Reason.SUSPENDED, message, is_moving=False)
    if problems:
        return _rejected(problems)
    if course.retry_at is not None and course.attempts:
        last = course.attempts[-1]
        when = course.retry_at.strftime("%H:%M:%SZ")
        message = f"{_ended(last)} Attempt {last.number + 1} starts at {when}."
        return Situation("Retrying", Reason.RETRYING, message)
    return Situation("Pending", Reason.PENDING, "The next attempt starts at once.")


def _in_attempt(job: FineTuneJob, status: FineTuneJobStatus, course: Course) -> Situation:
    current = course.attempts[-1]
    if current.stopping_for:
        return _stopping(current)
    state, reason, message = _stage(job, status, course)
    if course.hang is not None:
        # A node may come, a quota may be freed; an image does not mend itself.
        stuck = course.hang.reason is not Reason.UNSCHEDULABLE
        return Situation(state, course.hang.reason, course.hang.message, is_moving=not stuck, is_stuck=stuck)
    if current.number > 1 and state == "Starting" and len(course.attempts) > 1:
        message = f"{_ended(course.attempts[-2])} {message}"
    return Situation(state, reason, message)


def _stage(job: FineTuneJob, status: FineTuneJobStatus, course: Course) -> tuple[JobState, Reason, str]:
    current, queue = course.attempts[-1], job.spec.run_policy.queue_name
    if course.stage is Stage.QUEUED or (course.stage is Stage.CLAIMED and queue):
        where = f"queue '{queue}'" if queue else "somebody"
        return (
            "Queued",
            Reason.QUEUED,
            f"Attempt {current.number} waits until {where} unsuspends its Job {current.job_name}.",
        )
    if current.start_time is None:
        return (
            "Starting",
            Reason.STARTING,
            f"Attempt {current.number} starts: its pods are being scheduled and their image pulled.",
        )
    if course.stage is Stage.STARTING:
        return "Starting", Reason.STARTING, f"Attempt {current.number} starts: not all of its pods run yet."
    return _PHASES.get(status.progress.phase, _PHASES[""])


def _stopping(current: Attempt) -> Situation:
    if current.stopping_for == Reason.SUSPENDED:
        message = f"Attempt {current.number} saves and commits a checkpoint, then its pods go."
        return Situation("Suspending", Reason.SUSPENDING, message)
    message = (
        f"Attempt {current.number} is stopped for {current.stopping_for}: it saves and commits a checkpoint first."
    )
    return Situation("Stopping", Reason.STOPPING, message)


def _rejected(problems: Sequence[Problem]) -> Situation:
    message = " ".join(problem.message for problem in problems)
    return Situation("Rejected", problems[0].reason, message, is_moving=False, is_stuck=True)


def _ended(attempt: Attempt) -> str:
    message = attempt.message if attempt.message.endswith((".", "!", "?")) else f"{attempt.message}."
    return f"Attempt {attempt.number} ended with {attempt.reason}: {message}"
