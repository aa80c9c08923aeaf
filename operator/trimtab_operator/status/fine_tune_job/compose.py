"""The status of a FineTuneJob: facts first, then the conditions and the word that are told from them."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from trimtab_operator.api.times import format_time, parse_time
from trimtab_operator.api.v1alpha1.fine_tune_job import Attempt, FineTuneJobStatus, Resolved
from trimtab_operator.gates import judge
from trimtab_operator.settings import Settings
from trimtab_operator.state import Course, Manifest, ObservedJob, Outcome, Plan, Problem, Report, Stage
from trimtab_operator.status.conditions import merge
from trimtab_operator.status.fine_tune_job.conditions import View, facts
from trimtab_operator.status.fine_tune_job.events import job_events
from trimtab_operator.status.fine_tune_job.progress import (
    merge_checkpoints,
    merge_metrics,
    merge_rejected,
    report_progress,
    without_speed,
)
from trimtab_operator.status.fine_tune_job.situation import Situation, find_situation
from trimtab_operator.status.fine_tune_job.usage import compute_usage
from trimtab_operator.status.wire import to_wire


def compute_status(
    observed: ObservedJob, problems: Sequence[Problem], plan: Plan, *, settings: Settings, now: datetime
) -> Outcome:
    """What is true now. A report alone is written at most every `progress_interval`; everything else at once."""
    job, stored = observed.job, observed.job.status
    if plan.course is None:
        return Outcome(_wire(stored.model_copy(update={"observed_generation": _generation(observed, stored)})))
    course = _with_refusal(plan.course, observed)
    quiet, situation = _build(observed, problems, course, None, settings=settings, now=now)
    report = _report(observed)
    if report is not None and (quiet != stored or _is_due(stored, settings=settings, now=now)):
        quiet, situation = _build(observed, problems, course, report, settings=settings, now=now)
    return Outcome(_wire(quiet), job_events(job.status, quiet, situation))


def _with_refusal(course: Course, observed: ObservedJob) -> Course:
    """What the API server has just refused keeps the attempt from going on as much as a pod that hangs."""
    refusal = observed.rejected
    if refusal is None or course.hang is not None or course.stage is Stage.NONE:
        return course
    return replace(course, hang=Problem(refusal.reason, refusal.message))


def _build(
    observed: ObservedJob,
    problems: Sequence[Problem],
    course: Course,
    report: Report | None,
    *,
    settings: Settings,
    now: datetime,
) -> tuple[FineTuneJobStatus, Situation]:
    status = _with_attempts(observed, course, settings=settings)
    if report is not None:
        status = _with_report(status, report)
    status = _with_last_words(observed, status, course)
    status = _with_totals(observed, status, course, now=now)
    situation = find_situation(observed.job, status, problems, course)
    view = View(observed.job, status, problems, course, situation)
    generation = observed.job.metadata.generation
    conditions = merge(status.conditions, facts(view), generation=generation, now=now)
    update = {"observed_generation": generation, "conditions": conditions, "state": situation.state}
    return status.model_copy(update=update), situation


def _with_attempts(observed: ObservedJob, course: Course, *, settings: Settings) -> FineTuneJobStatus:
    """The attempts as the plan decided; with the first one, the profiles as they are now."""
    stored = observed.job.status
    known = {attempt.number for attempt in stored.attempts}
    attempts = list(course.attempts)
    update = {"attempts": attempts, "resolved": _resolved(observed, course, settings=settings)}
    if attempts and attempts[-1].number not in known:
        update["progress"] = stored.progress.model_copy(update={"phase": ""})
    return stored.model_copy(update=update)


def _resolved(observed: ObservedJob, course: Course, *, settings: Settings) -> Resolved:
    resolved = observed.job.status.resolved
    if course.image_digest and not resolved.image_digest:
        resolved = resolved.model_copy(update={"image_digest": course.image_digest})
    if resolved.profile is not None or not course.attempts or observed.profile is None or observed.storage is None:
        return resolved
    return resolved.model_copy(
        update={
            "image": observed.image(settings.trainer_image),
            "profile_name": observed.profile.metadata.name,
            "profile": observed.profile.spec,
            "storage_name": observed.storage.metadata.name,
            "storage": observed.storage.spec,
        }
    )


def _with_report(status: FineTuneJobStatus, report: Report) -> FineTuneJobStatus:
    trainer, kubeflow = report.trainer, report.kubeflow
    is_newest = bool(status.attempts) and status.attempts[-1].number == report.attempt
    update: dict[str, object] = {}
    if is_newest:
        update["progress"] = report_progress(report, status.progress)
    if kubeflow is not None:
        update["metrics"] = merge_metrics(status.metrics, kubeflow.metrics)
    if trainer is not None:
        rejected = merge_rejected(status.rejected_checkpoints, trainer.rejected)
        update |= {
            "attempts": [_with_spent(attempt, report) for attempt in status.attempts],
            "metrics": merge_metrics(status.metrics, kubeflow.metrics if kubeflow else [], trainer.metrics),
            "data": trainer.data or status.data,
            "rejected_checkpoints": rejected,
            "checkpoints": merge_checkpoints(status.checkpoints, trainer.checkpoints, rejected),
            "report_uri": trainer.report_uri or status.report_uri,
            "warnings": trainer.warnings or status.warnings,
            "resolved": status.resolved.model_copy(
                update={
                    "model_digest": trainer.model_digest or status.resolved.model_digest,
                    "datasets": trainer.datasets or status.resolved.datasets,
                }
            ),
        }
    return status.model_copy(update=update)


def _with_spent(attempt: Attempt, report: Report) -> Attempt:
    if report.trainer is None or attempt.number != report.attempt:
        return attempt
    return attempt.model_copy(
        update={
            "resumed_from_step": report.trainer.resumed_from_step,
            "training_seconds": report.trainer.usage.training_seconds,
            "energy_watt_hours": report.trainer.usage.energy_watt_hours,
            "energy_source": report.trainer.usage.energy_source,
        }
    )


def _with_last_words(observed: ObservedJob, status: FineTuneJobStatus, course: Course) -> FineTuneJobStatus:
    """The termination message is there even when the operator was away for the whole run."""
    words = course.termination
    if words is None or _waits_for_version(status, course):
        return status
    said = [words.last_checkpoint] if words.last_checkpoint is not None else []
    checkpoints = merge_checkpoints(status.checkpoints, [*status.checkpoints, *said], status.rejected_checkpoints)
    progress = status.progress.model_copy(update={"step": max(words.step, status.progress.step)})
    gates = judge(observed.job.spec.evaluation.gates, words.gates, words.champion) if words.published else status.gates
    return status.model_copy(
        update={
            "progress": progress,
            "metrics": merge_metrics(status.metrics, words.metrics),
            "gates": gates,
            "checkpoints": checkpoints,
            "report_uri": words.report_uri or status.report_uri,
            "published": words.published or status.published,
            "model_version": words.published.name if words.published else status.model_version,
        }
    )


def _waits_for_version(status: FineTuneJobStatus, course: Course) -> bool:
    """Its ModelVersion is there in a moment, and the job complete: that is one write, not two."""
    published = course.termination.published if course.termination else None
    is_expected = published is not None and published.name == status.model_version
    return course.stage is Stage.ENDING and course.hang is None and is_expected


def _with_totals(
    observed: ObservedJob, status: FineTuneJobStatus, course: Course, *, now: datetime
) -> FineTuneJobStatus:
    started = next((attempt.start_time for attempt in status.attempts if attempt.start_time is not None), None)
    progress = status.progress
    if course.stage not in (Stage.RUNNING, Stage.ENDING):
        progress = without_speed(progress)
    if course.succeeded:
        progress = progress.model_copy(update={"percent": 100, "phase": "Finished"})
    rests = course.succeeded or course.failure is not None
    ended = status.attempts[-1].end_time if status.attempts else None
    usage = compute_usage(
        status.attempts,
        profile=status.resolved.profile,
        distribution=observed.job.spec.distribution,
        as_of=progress.last_report_time,
    )
    return status.model_copy(
        update={
            "progress": progress,
            "last_checkpoint": status.checkpoints[-1] if status.checkpoints else None,
            "usage": usage,
            "start_time": status.start_time or started,
            "completion_time": status.completion_time or ((ended or format_time(now)) if rests else None),
        }
    )


def _report(observed: ObservedJob) -> Report | None:
    """A report that says something that is not stored yet."""
    report = observed.report
    stored = observed.job.status.progress.last_report_time
    return None if report is None or report.stamp == stored else report


def _is_due(stored: FineTuneJobStatus, *, settings: Settings, now: datetime) -> bool:
    written = stored.progress.last_report_time
    if written is None:
        return True
    return now - parse_time(written) >= settings.progress_interval


def _generation(observed: ObservedJob, stored: FineTuneJobStatus) -> int | None:
    """A job at rest has seen a change of its time to live; one that is being deleted has nothing more to say."""
    return observed.job.metadata.generation if stored.is_finished else stored.observed_generation


def _wire(status: FineTuneJobStatus) -> Manifest:
    """The snapshots are written whole: a default that a later release changes must not change them."""
    wire = to_wire(status)
    for name in ("profile", "storage"):
        spec = getattr(status.resolved, name)
        if spec is not None:
            wire["resolved"][name] = spec.to_json()
    return wire
