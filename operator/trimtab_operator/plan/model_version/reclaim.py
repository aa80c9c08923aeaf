"""What becomes of a version's bytes when its object is deleted: our finalizer keeps the object until a Job has deleted them.

Nothing is deleted while something uses the version. Once a Job has begun it is carried through: the status has recorded it, and
from then on nothing may begin to use the version.
"""

from datetime import datetime, timedelta
from typing import Literal

from trimtab_operator import names
from trimtab_operator.api.times import parse_time
from trimtab_operator.api.v1alpha1 import ModelVersion, StorageProfile, TrainingProfile
from trimtab_operator.api.v1alpha1.reasons import Reason
from trimtab_operator.plan.fine_tune_job.observation import parse_job
from trimtab_operator.plan.model_version.check import MAX_REQUEST, follow
from trimtab_operator.plan.model_version.version_job import reclaim_job
from trimtab_operator.plan.stores import store
from trimtab_operator.settings import Settings
from trimtab_operator.state import ObjectRef, ObservedVersion, Plan, Problem, Reclaim, VersionCheck, uses
from trimtab_trainer.contract.manifests import model_prefix

LOOK_AGAIN = timedelta(seconds=30)
"""Jobs that start from a version, and versions of other namespaces, wake nobody here."""
RETRY = timedelta(minutes=10)
"""After a Job that failed. Credentials and stores are mended without a word to us."""
_COLLECTORS = frozenset({"foregroundDeletion", "orphan"})
"""Finalizers of the garbage collector: while one of them is there, it takes every new child away."""


def policy(version: ModelVersion) -> Literal["Retain", "Delete"]:
    """The annotation, where it says something, else the spec."""
    said = names.first_word(version.metadata.annotations.get(names.RECLAIM_ANNOTATION, ""))
    if said in ("Retain", "Delete"):
        return "Delete" if said == "Delete" else "Retain"
    return version.spec.reclaim_policy


def place(version: ModelVersion, storage: StorageProfile) -> str:
    """The folder that belongs to this version alone."""
    prefix = model_prefix(
        store(storage.metadata.name, storage.spec),
        namespace=version.metadata.namespace,
        model_name=version.spec.model_name,
        version=version.spec.version,
    )
    return f"s3://{storage.spec.bucket}/{prefix}"


def is_elsewhere(observed: ObservedVersion) -> bool:
    """Its bytes are not at its own place: somebody else published them, and they are not ours to delete."""
    artifact, storage = observed.version.artifact, observed.storage
    return artifact is not None and storage is not None and artifact.uri != place(observed.version, storage)


def finalizer(observed: ObservedVersion) -> bool | None:
    """Whether our finalizer should be on a version that is not being deleted; None: as it is."""
    wanted = policy(observed.version) == "Delete" and not is_elsewhere(observed)
    return None if wanted == (names.RECLAIM_FINALIZER in observed.version.metadata.finalizers) else wanted


def misplaced(observed: ObservedVersion) -> Reclaim | None:
    """A policy that cannot be followed is said at once, not when the version is deleted."""
    if policy(observed.version) != "Delete" or observed.storage is None or not is_elsewhere(observed):
        return None
    message = (
        f"reclaimPolicy: Delete deletes only what lies at the version's own place, {place(observed.version, observed.storage)}; spec.artifact.uri "
        f"is another one. Create the version with Retain, or set the annotation {names.RECLAIM_ANNOTATION}=Retain."
    )
    return Reclaim(problem=Problem(Reason.SPEC_INVALID, message))


def reclaim(observed: ObservedVersion, *, settings: Settings, now: datetime) -> Plan:
    """What to do about a version that is being deleted."""
    version, begun = observed.version, observed.version.status.reclaim
    # No Job can be made in a namespace that is going, and its Secrets go too: the object must not wait for ever.
    lets_go = policy(version) == "Retain" or is_elsewhere(observed) or observed.namespace_is_going
    if lets_go or (begun is not None and begun.done_at):
        return Plan(finalizer=False)
    users = _users(observed) if begun is None else ()
    if users:
        return Plan(reclaim=Reclaim(users=users), requeue_after=LOOK_AGAIN)
    profile, storage = observed.profile, observed.storage
    if profile is None or storage is None:
        return Plan(reclaim=Reclaim(problem=_no_profile(observed)), requeue_after=LOOK_AGAIN)
    return _deleting(observed, profile, storage, settings=settings, now=now)


def _deleting(
    observed: ObservedVersion, profile: TrainingProfile, storage: StorageProfile, *, settings: Settings, now: datetime
) -> Plan:
    version, begun = observed.version, observed.version.status.reclaim
    request = version.metadata.annotations.get(names.RECLAIM_ANNOTATION, "")[:MAX_REQUEST]
    name = names.reclaim_job(version.metadata.name, request)
    check, again = follow(observed.jobs, observed.pods, VersionCheck(name, "", None), now=now)
    others = tuple(job.ref for job in map(parse_job, observed.jobs) if job.ref.name != name)
    if check.has_ended:
        return _ended(observed, check, now=now)
    if begun is None or begun.job_name != name:
        # Recorded before the Job exists: rollouts read it.
        return Plan(reclaim=Reclaim(check=check), delete=others, requeue_after=timedelta(0))
    if others or _COLLECTORS & set(version.metadata.finalizers):
        # A Job that still publishes or reads goes first.
        return Plan(reclaim=Reclaim(check=check), delete=others, requeue_after=timedelta(seconds=1))
    job = reclaim_job(version, name, profile=profile, storage=storage, settings=settings)
    return Plan(create=(job,), reclaim=Reclaim(check=check), requeue_after=again)


def _has_succeeded(check: VersionCheck) -> bool:
    """A Job that ended well has deleted everything, whether or not its last words were read."""
    if check.words is not None:
        return check.words.reason == "Succeeded"
    return check.problem is not None and check.problem.reason is Reason.RESULT_LOST


def _ended(observed: ObservedVersion, check: VersionCheck, *, now: datetime) -> Plan:
    if _has_succeeded(check):
        return Plan(reclaim=Reclaim(check=check, is_done=True))
    begun = observed.version.status.reclaim
    since = parse_time(begun.failed_at) if begun is not None and begun.failed_at else now
    retry_at = since + RETRY
    if now < retry_at:
        return Plan(reclaim=Reclaim(check=check, retry_at=retry_at), requeue_after=retry_at - now)
    return Plan(
        reclaim=Reclaim(check=check, retry_at=now), delete=_job(observed, check.job_name), requeue_after=LOOK_AGAIN
    )


def _job(observed: ObservedVersion, name: str) -> tuple[ObjectRef, ...]:
    jobs = map(parse_job, observed.jobs)
    return tuple(job.ref for job in jobs if job.ref.name == name and not job.is_deleting)


def _users(observed: ObservedVersion) -> tuple[str, ...]:
    rollouts = [f"ModelRollout {each.metadata.name}" for each in observed.rollouts if uses(each, observed.version)]
    return tuple(sorted({*rollouts, *observed.dependents}))


def _no_profile(observed: ObservedVersion) -> Problem:
    spec = observed.version.spec
    if observed.storage is None:
        said = f"StorageProfile '{spec.storage}' does not exist"
        return Problem(Reason.STORAGE_PROFILE_NOT_FOUND, f"{said}: nothing can delete the bytes.", who="platform")
    said = f"TrainingProfile '{spec.profile}'" if spec.profile else "A default TrainingProfile"
    return Problem(
        Reason.PROFILE_NOT_FOUND, f"{said} does not exist: the Job that deletes runs on one.", who="platform"
    )
