"""What should exist for a FineTuneJob now."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from trimtab_operator.api.times import parse_time
from trimtab_operator.plan.fine_tune_job import retention
from trimtab_operator.plan.fine_tune_job.config_map import config_map, config_text, run_config
from trimtab_operator.plan.fine_tune_job.course import Decision, chart
from trimtab_operator.plan.fine_tune_job.headless_service import headless_service
from trimtab_operator.plan.fine_tune_job.model_version import model_version
from trimtab_operator.plan.fine_tune_job.observation import TrainerJob, parse_job
from trimtab_operator.plan.fine_tune_job.trainer_job import trainer_job
from trimtab_operator.settings import Settings
from trimtab_operator.state import Manifest, ObjectRef, ObservedJob, Plan, Problem, Stage


def make_plan(observed: ObservedJob, problems: Sequence[Problem], *, settings: Settings, now: datetime) -> Plan:
    """Follow the attempts, and make or remove what they need."""
    job = observed.job
    if job.metadata.deletion_timestamp is not None:
        return Plan()
    jobs = [parse_job(manifest) for manifest in observed.trainer_jobs]
    if job.status.is_finished:
        return _at_rest(observed, jobs, now=now)
    decision = chart(observed, problems, now=now)
    stored = job.status.open_attempt
    waits = (*decision.look_again, _report_due(observed, settings=settings, now=now))
    children, is_stored = _children(observed, decision, problems, settings=settings), _is_stored(observed, decision)
    # A later attempt's Job waits for a pass of its own: what this pass's status stores may belong in its configuration.
    is_first = not job.status.attempts
    return Plan(
        prepare=() if is_stored else children[:1],
        follow=children[1:] if is_first else (),
        create=(*(children if is_stored else ()), *_version(observed, decision, settings=settings)),
        delete=(
            *_stopped(observed, decision, jobs),
            *retention.surplus_jobs(jobs, open_attempt=stored.number if stored else None),
        ),
        requeue_after=_earliest(waits),
        course=decision.course,
    )


def _at_rest(observed: ObservedJob, jobs: Sequence[TrainerJob], *, now: datetime) -> Plan:
    left = retention.time_to_live(observed.job, now=now)
    if left == timedelta(0):
        return Plan(delete_owner=True)
    return Plan(delete=retention.surplus_jobs(jobs, open_attempt=None), requeue_after=left)


def _children(
    observed: ObservedJob, decision: Decision, problems: Sequence[Problem], *, settings: Settings
) -> tuple[Manifest, ...]:
    """What an attempt that has no Job yet needs: its ConfigMap first, its Job last."""
    course, profile, storage = decision.course, observed.profile_spec, observed.storage_spec
    if problems or course.stage is not Stage.CLAIMED or profile is None or storage is None:
        return ()
    number = course.attempts[-1].number
    config = run_config(observed, number, profile=profile, storage=storage, settings=settings)
    service = (headless_service(observed, number),) if config.distribution.nodes > 1 else ()
    text = config_text(config)
    return (
        config_map(observed, text, attempt=number, settings=settings),
        *service,
        trainer_job(observed, config, text, profile=profile, storage=storage, settings=settings),
    )


def _is_stored(observed: ObservedJob, decision: Decision) -> bool:
    """Whether the attempt's number is stored, and not only claimed in this pass: no Job before that, which is the fence."""
    stored, attempts = observed.job.status.open_attempt, decision.course.attempts
    return stored is not None and bool(attempts) and attempts[-1].number == stored.number


def _version(observed: ObservedJob, decision: Decision, *, settings: Settings) -> tuple[Manifest, ...]:
    words = decision.publish
    if words is None or words.published is None:
        return ()
    attempt = decision.course.attempts[-1].number
    return (model_version(observed, attempt, termination=words, published=words.published, settings=settings),)


def _stopped(observed: ObservedJob, decision: Decision, jobs: Iterable[TrainerJob]) -> tuple[ObjectRef, ...]:
    """The Job of an attempt that is stored as stopping: deleting it lets its pods save and commit.

    One that ends by itself is left alone: how it ended is still to be read.
    """
    stored = observed.job.status.open_attempt
    if stored is None or not stored.stopping_for:
        return ()
    if decision.course.stage not in (Stage.QUEUED, Stage.STARTING, Stage.RUNNING):
        return ()
    return tuple(job.ref for job in jobs if job.attempt == stored.number and not job.is_deleting)


def _report_due(observed: ObservedJob, *, settings: Settings, now: datetime) -> timedelta | None:
    """When a report that is held back, so that progress is not written too often, may be written."""
    stored = observed.job.status.progress.last_report_time
    if observed.report is None or stored is None or observed.report.stamp == stored:
        return None
    return max(parse_time(stored) + settings.progress_interval - now, timedelta(0)) or None


def _earliest(waits: Iterable[timedelta | None]) -> timedelta | None:
    return min((wait for wait in waits if wait is not None), default=None)
