"""Events of a FineTuneJob: transitions between the stored status and the new one, nothing else."""

from collections.abc import Iterator
from typing import Literal

from trimtab_operator.api.v1alpha1.fine_tune_job import Attempt, FineTuneJobStatus
from trimtab_operator.api.v1alpha1.reasons import Reason
from trimtab_operator.state import EventNote
from trimtab_operator.status.fine_tune_job.situation import Situation


def job_events(before: FineTuneJobStatus, after: FineTuneJobStatus, situation: Situation) -> tuple[EventNote, ...]:
    """In the order in which a reader would tell them."""
    return (
        *_acceptance(before, after),
        *_endings(before, after),
        *_starts(before, after),
        *_hang(before, situation),
        *_checkpoints(before, after),
        *_rest(before, after, situation),
    )


def _acceptance(before: FineTuneJobStatus, after: FineTuneJobStatus) -> Iterator[EventNote]:
    old, new = before.condition("Accepted"), after.condition("Accepted")
    if new is None or (old is not None and (old.status, old.reason) == (new.status, new.reason)):
        return
    if new.status == "True":
        yield EventNote("Normal", Reason.ACCEPTED, new.message, "Accept")
    else:
        yield EventNote("Warning", Reason(new.reason), new.message, "Accept")


def _endings(before: FineTuneJobStatus, after: FineTuneJobStatus) -> Iterator[EventNote]:
    """Attempts that failed and are followed by another. The last failure is told by the job's own end."""
    open_before = before.open_attempt
    if open_before is None or after.is_finished:
        return
    ended = next((attempt for attempt in after.attempts if attempt.number == open_before.number), None)
    if ended is None or not ended.reason or ended.reason in (Reason.SUSPENDED, Reason.SUCCEEDED):
        return
    message = f"Attempt {ended.number} ended with {ended.reason}: {ended.message} Trying again."
    yield EventNote("Warning", Reason.RETRYING, message, "Retry")


def _starts(before: FineTuneJobStatus, after: FineTuneJobStatus) -> Iterator[EventNote]:
    known = {attempt.number for attempt in before.attempts}
    for index, attempt in enumerate(after.attempts):
        if attempt.number not in known and attempt.end_time is None:
            yield _start(attempt, after.attempts[index - 1] if index else None, after)


def _start(attempt: Attempt, previous: Attempt | None, after: FineTuneJobStatus) -> EventNote:
    saved = after.last_checkpoint
    where = f"from the checkpoint of step {saved.step}" if saved else "at step 0"
    if previous is not None and previous.reason == Reason.SUSPENDED:
        return EventNote("Normal", Reason.RESUMED, f"Resumed: attempt {attempt.number} continues {where}.", "Resume")
    message = f"Attempt {attempt.number} starts {where} as Job {attempt.job_name}."
    return EventNote("Normal", Reason.ATTEMPT_STARTED, message, "Start")


def _hang(before: FineTuneJobStatus, situation: Situation) -> Iterator[EventNote]:
    hangs = situation.state in ("Starting", "Publishing", "Queued") and (
        situation.is_stuck or situation.reason is Reason.UNSCHEDULABLE
    )
    old = before.condition("Ready")
    if hangs and (old is None or old.reason != situation.reason):
        yield EventNote("Warning", situation.reason, situation.message, "Start")


def _checkpoints(before: FineTuneJobStatus, after: FineTuneJobStatus) -> Iterator[EventNote]:
    if before.last_checkpoint is None and after.last_checkpoint is not None:
        first = after.last_checkpoint
        message = f"The first checkpoint is committed: step {first.step}, {first.uri}"
        yield EventNote("Normal", Reason.CHECKPOINT_COMMITTED, message, "Checkpoint")
    known = {checkpoint.uri for checkpoint in before.rejected_checkpoints}
    for rejected in after.rejected_checkpoints:
        if rejected.uri not in known:
            message = (
                f"The checkpoint of step {rejected.step} does not match its digests and is not used: {rejected.why}"
            )
            yield EventNote("Warning", Reason.CHECKPOINT_REJECTED, message, "Resume")


def _rest(before: FineTuneJobStatus, after: FineTuneJobStatus, situation: Situation) -> Iterator[EventNote]:
    for condition, action in (("Suspended", "Suspend"), ("Complete", "Finish"), ("Failed", "Finish")):
        if after.is_true(condition) and not before.is_true(condition):
            kind: Literal["Normal", "Warning"] = "Warning" if condition == "Failed" else "Normal"
            yield EventNote(kind, situation.reason, situation.message, action)
