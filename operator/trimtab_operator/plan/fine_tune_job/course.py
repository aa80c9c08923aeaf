"""What becomes of the attempts: follow the open one, close it when it has ended, start the next when it is time."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from trimtab_operator import names
from trimtab_operator.api.times import format_time, parse_time
from trimtab_operator.api.v1alpha1.fine_tune_job import Attempt
from trimtab_operator.api.v1alpha1.reasons import Reason
from trimtab_operator.plan.fine_tune_job import restart, suspension
from trimtab_operator.plan.fine_tune_job.attempts import Assessment, assess
from trimtab_operator.plan.fine_tune_job.evidence import Cause
from trimtab_operator.plan.fine_tune_job.suspension import Limit
from trimtab_operator.state import Course, ObservedJob, Problem, Stage
from trimtab_trainer.contract.messages import TerminationMessage

MAX_ATTEMPTS_KEPT = 150
_MESSAGE = 1024


@dataclass(frozen=True, slots=True)
class Decision:
    """The course, and what the plan needs besides."""

    course: Course
    publish: TerminationMessage | None = None
    """Last words of a trainer whose model waits for its ModelVersion."""
    look_again: tuple[timedelta | None, ...] = ()


def chart(observed: ObservedJob, problems: Sequence[Problem], *, now: datetime) -> Decision:
    """Decide on the attempts of a job that is not at rest."""
    current = observed.job.status.open_attempt
    if current is None:
        return _next(observed, observed.job.status.attempts, problems, now=now)
    assessment = assess(observed, current, now=now)
    seen = _seen(current, assessment)
    before = observed.job.status.attempts[:-1]
    if assessment.cause is None:
        return _follow(observed, (before, seen), assessment, problems, now=now)
    if assessment.cause.reason is Reason.SUCCEEDED:
        return _succeed(observed, (before, seen), assessment, problems, now=now)
    return _ended(observed, (before, seen), assessment, problems, now=now)


_Lives = tuple[list[Attempt], Attempt]
"""The ended attempts, and the newest one."""


def _follow(
    observed: ObservedJob, lives: _Lives, assessment: Assessment, problems: Sequence[Problem], *, now: datetime
) -> Decision:
    before, current = lives
    stop = _stop(observed, (*before, current), now=now)
    reason = Reason(current.stopping_for) if current.stopping_for else stop.reason if stop else None
    if assessment.stage is Stage.CLAIMED and reason is not None:
        # Nothing of it exists: there is nothing to save.
        closed = _close(observed, current, Cause(reason, stop.message if stop else "", now, counts=False), now=now)
        return _next(observed, [*before, closed], problems, now=now)
    if reason is not None:
        current = current.model_copy(update={"stopping_for": reason.value})
    course = Course(
        attempts=(*before, current),
        stage=assessment.stage,
        hang=assessment.hang,
        # The pods of a Job that is being deleted take their last words with them.
        termination=assessment.termination if assessment.job and assessment.job.is_deleting else None,
        image_digest=_image_digest(assessment),
    )
    return Decision(course, look_again=(assessment.look_again, _time_left(observed, course.attempts, now=now)))


def _succeed(
    observed: ObservedJob, lives: _Lives, assessment: Assessment, problems: Sequence[Problem], *, now: datetime
) -> Decision:
    """A job is done when its ModelVersion exists: until then the attempt stays open, and so does the evidence on its pods."""
    before, current = lives
    words = assessment.termination
    custom = observed.profile_spec is not None and bool(observed.profile_spec.command)
    if custom or _made(observed):
        closed = _close(observed, current, _certain(assessment.cause), now=now)
        course = Course((*before, closed), succeeded=True, termination=words, image_digest=_image_digest(assessment))
        return Decision(course)
    if words is None or words.published is None:
        lost = Cause(
            Reason.RESULT_LOST, "The trainer succeeded, but its pod and its result went before they were read."
        )
        return _next(observed, [*before, _close(observed, current, lost, now=now)], problems, now=now)
    return Decision(Course((*before, current), Stage.ENDING, termination=words), publish=words)


def _ended(
    observed: ObservedJob, lives: _Lives, assessment: Assessment, problems: Sequence[Problem], *, now: datetime
) -> Decision:
    before, current = lives
    cause = _certain(assessment.cause)
    if current.stopping_for and not restart.is_final(cause.reason):
        cause = Cause(
            Reason(current.stopping_for), _stop_message(observed, current), cause.at, cause.node, counts=False
        )
    closed = _close(observed, current, cause, now=now, words=assessment.termination)
    return _next(observed, [*before, closed], problems, now=now, words=assessment.termination)


def _next(
    observed: ObservedJob,
    attempts: Sequence[Attempt],
    problems: Sequence[Problem],
    *,
    now: datetime,
    words: TerminationMessage | None = None,
) -> Decision:
    """All attempts have ended: fail, wait, rest, or claim the next number."""
    job = observed.job
    verdict = restart.verdict(attempts, max_attempts=job.spec.run_policy.max_attempts)
    failure = verdict.failure or _spent(observed, attempts, now=now)
    if failure is not None:
        return Decision(Course(tuple(attempts), failure=failure, termination=words))
    wait = verdict.retry_at - now if verdict.retry_at else timedelta(0)
    if job.spec.suspend or problems or wait > timedelta(0):
        course = Course(tuple(attempts), retry_at=verdict.retry_at, termination=words)
        return Decision(course, look_again=(wait,) if wait > timedelta(0) else ())
    number = attempts[-1].number + 1 if attempts else 1
    claimed = Attempt(number=number, job_name=names.attempt_job(job.metadata.name, number))
    return Decision(Course((*_fold(attempts), claimed), Stage.CLAIMED, termination=words))


def _seen(attempt: Attempt, assessment: Assessment) -> Attempt:
    """What the pods of an attempt tell once they run. Its Job's uid is worth no status write of its own."""
    started = assessment.started_at
    if attempt.start_time is not None or started is None or assessment.job is None:
        return attempt
    return attempt.model_copy(
        update={
            "start_time": format_time(started),
            "job_uid": assessment.job.ref.uid,
            "node": assessment.pods[0].node,
        }
    )


def _close(
    observed: ObservedJob, attempt: Attempt, cause: Cause, *, now: datetime, words: TerminationMessage | None = None
) -> Attempt:
    end = cause.at or now
    start = parse_time(attempt.start_time) if attempt.start_time else None
    active = max(end - start, timedelta(0)) if start else timedelta(0)
    free = cause.reason in restart.DISRUPTIONS and _committed(observed, attempt, words)
    return attempt.model_copy(
        update={
            "end_time": format_time(max(end, start) if start else end),
            "active_seconds": attempt.active_seconds + active.total_seconds(),
            "reason": cause.reason.value,
            "message": cause.message[:_MESSAGE],
            "counted": cause.counts and not free,
            "node": attempt.node or cause.node,
        }
    )


def _committed(observed: ObservedJob, attempt: Attempt, words: TerminationMessage | None) -> bool:
    """Whether the attempt got anywhere: then losing its node again and again is still progress."""
    report = observed.report.trainer if observed.report else None
    known = [*observed.job.status.checkpoints, *(report.checkpoints if report else [])]
    if words is not None and words.last_checkpoint is not None:
        known.append(words.last_checkpoint)
    return any(checkpoint.attempt == attempt.number for checkpoint in known)


def _made(observed: ObservedJob) -> bool:
    """The ModelVersion is the lasting record of a success."""
    version = observed.version
    source = version.spec.source if version else None
    return source is not None and source.uid == observed.job.metadata.uid


def _stop(observed: ObservedJob, attempts: Sequence[Attempt], *, now: datetime) -> Limit | None:
    """Why a running attempt should stop now. A bound outranks a suspension."""
    limit = _limit(observed, attempts, now=now)
    if limit is None and observed.job.spec.suspend:
        return Limit(Reason.SUSPENDED, timedelta(0), "Suspended by spec.suspend.")
    return limit


def _stop_message(observed: ObservedJob, attempt: Attempt) -> str:
    bounds = suspension.limits(observed.job, observed.profile_spec) if observed.profile_spec else []
    messages = {bound.reason.value: bound.message for bound in reversed(bounds)}
    return messages.get(attempt.stopping_for, "Suspended by spec.suspend.")


def _spent(observed: ObservedJob, attempts: Sequence[Attempt], *, now: datetime) -> Problem | None:
    limit = _limit(observed, attempts, now=now)
    return Problem(limit.reason, limit.message, restart.who_acts(limit.reason)) if limit else None


def _limit(observed: ObservedJob, attempts: Sequence[Attempt], *, now: datetime) -> Limit | None:
    profile = observed.profile_spec
    return suspension.exceeded(observed.job, profile, attempts, now=now) if profile else None


def _time_left(observed: ObservedJob, attempts: Sequence[Attempt], *, now: datetime) -> timedelta | None:
    profile = observed.profile_spec
    if profile is None or attempts[-1].stopping_for:
        return None
    return suspension.time_left(observed.job, profile, attempts, now=now)


def _image_digest(assessment: Assessment) -> str:
    return next((pod.image_id for pod in assessment.pods if pod.image_id), "")


def _certain(cause: Cause | None) -> Cause:
    if cause is None:
        raise AssertionError("an attempt without a cause has not ended")
    return cause


def _fold(attempts: Sequence[Attempt]) -> list[Attempt]:
    """Bound the list for jobs that are suspended for ever again: the oldest free attempts hand their time to the next one."""
    kept = list(attempts)
    while len(kept) >= MAX_ATTEMPTS_KEPT:
        index = next((i for i, attempt in enumerate(kept[:-1]) if not attempt.counted), 0)
        heir = kept[index + 1]
        seconds = kept[index].active_seconds + heir.active_seconds
        kept[index : index + 2] = [heir.model_copy(update={"active_seconds": seconds})]
    return kept
