"""What should exist for a ModelVersion: a Job that looks at it, while something about it is asked and not answered."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from trimtab_operator.api.v1alpha1.reasons import Reason
from trimtab_operator.plan.fine_tune_job.observation import parse_job
from trimtab_operator.plan.model_version.check import look, request_of
from trimtab_operator.plan.model_version.reclaim import finalizer, misplaced, reclaim
from trimtab_operator.plan.model_version.version_job import version_job
from trimtab_operator.settings import Settings
from trimtab_operator.state import ObjectRef, ObservedVersion, Plan, Problem


def make_plan(observed: ObservedVersion, problems: Sequence[Problem], *, settings: Settings, now: datetime) -> Plan:
    """The Job of the newest request. One that has answered stays, for its log, until the next is made."""
    if observed.version.metadata.deletion_timestamp is not None:
        return reclaim(observed, settings=settings, now=now)
    looking = _looking(observed, problems, settings=settings, now=now)
    return replace(looking, finalizer=finalizer(observed), reclaim=misplaced(observed))


def _looking(observed: ObservedVersion, problems: Sequence[Problem], *, settings: Settings, now: datetime) -> Plan:
    request = request_of(observed)
    if request is None or problems:
        return Plan()
    check, again = look(observed, request, now=now)
    profile, storage = observed.profile, observed.storage
    if profile is None or storage is None:
        return Plan(check=replace(check, problem=_no_profile(observed)))
    if check.has_ended:
        return Plan(check=check)
    measures = request.evaluate is not None
    job = version_job(observed, check.job_name, measures=measures, profile=profile, storage=storage, settings=settings)
    return Plan(create=(job,), delete=_others(observed, check.job_name), requeue_after=again, check=check)


def _no_profile(observed: ObservedVersion) -> Problem:
    name = observed.version.spec.profile
    said = (
        f"TrainingProfile '{name}' does not exist"
        if name
        else "spec.profile names no TrainingProfile and none is the default"
    )
    return Problem(Reason.PROFILE_NOT_FOUND, f"{said}: the Job that looks at this version runs on one.", who="platform")


def _others(observed: ObservedVersion, name: str) -> tuple[ObjectRef, ...]:
    jobs = map(parse_job, observed.jobs)
    return tuple(job.ref for job in jobs if job.ref.name != name and not job.is_deleting)
