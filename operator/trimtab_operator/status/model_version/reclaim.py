"""What is said while a version is being deleted: what it waits for, how its bytes go, what went wrong and who can help."""

from collections.abc import Iterable
from datetime import datetime

from trimtab_operator import names
from trimtab_operator.api.times import format_time
from trimtab_operator.api.v1alpha1 import ModelVersion
from trimtab_operator.api.v1alpha1.model_version import ModelVersionStatus, VersionReclaim
from trimtab_operator.api.v1alpha1.reasons import Reason
from trimtab_operator.state import EventNote, Reclaim, VersionCheck
from trimtab_operator.status.conditions import Fact, fact, shorten

RECLAIMED = "Reclaimed"
_WAY_OUT = (
    f"To keep the bytes and let the object go, set the annotation {names.RECLAIM_ANNOTATION}=Retain; "
    f"to try again at once, {names.RECLAIM_ANNOTATION}=Delete:again, or anything else behind the colon."
)


def reclaimed(version: ModelVersion, reclaim: Reclaim | None, *, now: datetime) -> VersionReclaim | None:
    """The record, with what this pass decided and saw."""
    before = version.status.reclaim
    if reclaim is None or reclaim.check is None:
        return before
    check, time = reclaim.check, format_time(now)
    known = before or VersionReclaim(started_at=time, job_name=check.job_name)
    if known.job_name != check.job_name:
        known = VersionReclaim(started_at=known.started_at, job_name=check.job_name)
    if not check.has_ended:
        # Made anew after a failure, or still at it.
        return known.model_copy(update={"failed_at": "", "message": ""})
    if reclaim.is_done:
        message = check.words.message if check.words else "Its bytes are gone."
        return known.model_copy(update={"done_at": known.done_at or time, "failed_at": "", "message": shorten(message)})
    return known.model_copy(update={"failed_at": known.failed_at or time, "message": shorten(_why(check))})


def told(
    said: Iterable[Fact], version: ModelVersion, reclaim: Reclaim | None, record: VersionReclaim | None
) -> list[Fact]:
    """The conditions of a version, with what its deletion adds and takes."""
    if version.metadata.deletion_timestamp is None or reclaim is None:
        return list(said)
    reason, message, stuck = _situation(version, reclaim, record)
    gone = record is not None and bool(record.done_at)
    own = fact(RECLAIMED, holds=gone, reason=reason, message=message)
    moving = fact("Reconciling", holds=not stuck, reason=reason, message=message)
    stalled = fact("Stalled", holds=stuck, reason=reason, message=message)
    replaced = {fact.type: fact for fact in (own, moving, stalled)}
    if record is not None:
        # Bytes are going: nothing may begin to use it.
        replaced["Ready"] = fact("Ready", holds=False, reason=reason, message=message)
    return [*(each for each in said if each.type not in replaced), *replaced.values()]


def event(before: ModelVersionStatus, after: ModelVersionStatus) -> EventNote | None:
    """Each new reason of the deletion, once."""
    old, new = before.condition(RECLAIMED), after.condition(RECLAIMED)
    if new is None or (old is not None and old.reason == new.reason):
        return None
    warns = new.reason not in (Reason.RECLAIMING.value, Reason.RECLAIMED.value)
    return EventNote("Warning" if warns else "Normal", Reason(new.reason), new.message, action="Delete")


def _situation(version: ModelVersion, reclaim: Reclaim, record: VersionReclaim | None) -> tuple[Reason, str, bool]:
    """Reason, message, and whether a person must act."""
    name = version.metadata.name
    if reclaim.users:
        users = ", ".join(reclaim.users)
        return (
            Reason.IN_USE,
            shorten(f"{name} is being deleted and waits for what uses its bytes: {users}. {_WAY_OUT}"),
            False,
        )
    if reclaim.problem is not None:
        return reclaim.problem.reason, shorten(f"{reclaim.problem.message} {_WAY_OUT}"), True
    if record is not None and record.done_at:
        return Reason.RECLAIMED, record.message, False
    if record is not None and record.failed_at:
        job = f"Job {record.job_name} failed at {record.failed_at} and is made anew after ten minutes"
        return Reason.RECLAIM_FAILED, shorten(f"{record.message} {job}. {_WAY_OUT}"), True
    check = reclaim.check
    if check is not None and check.problem is not None:
        return Reason.RECLAIM_FAILED, shorten(f"{check.problem.message} {_WAY_OUT}"), True
    return Reason.RECLAIMING, f"Job {check.job_name if check else ''} deletes the bytes of {name}.", False


def _why(check: VersionCheck) -> str:
    if check.words is not None:
        return f"{check.words.reason}: {check.words.message}"
    return check.problem.message if check.problem is not None else "The Job left no result."
