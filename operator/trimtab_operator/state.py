"""Frozen values that travel between the rooms: what is observed, what is wrong, what should exist, what is said about it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Literal, NamedTuple

from trimtab_operator.api.v1alpha1 import (
    FineTuneJob,
    ModelRollout,
    ModelVersion,
    Reason,
    StorageProfile,
    TrainingProfile,
)
from trimtab_operator.api.v1alpha1.analysis import Metric, MetricResult
from trimtab_operator.api.v1alpha1.fine_tune_job import Attempt
from trimtab_operator.api.v1alpha1.model_rollout import CanaryStatus, HandledAction, Passage, Routing
from trimtab_operator.api.v1alpha1.model_version import BaseModel
from trimtab_operator.api.v1alpha1.storage_profile import StorageProfileSpec
from trimtab_operator.api.v1alpha1.training_profile import TrainingProfileSpec
from trimtab_trainer.contract.messages import KubeflowTrainerStatus, TerminationMessage, TrainerReport
from trimtab_trainer.contract.run_config import ServerConfig
from trimtab_trainer.contract.serving import ServerReport

Manifest = dict[str, Any]
"""An object as the API server speaks it."""


class Key(NamedTuple):
    """Names one object of ours; what the queue holds."""

    kind: str
    namespace: str
    name: str


class ObjectRef(NamedTuple):
    """Names one object of any kind, as it was observed: a delete carries uid and resourceVersion as preconditions."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str
    resource_version: str = ""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that keeps an object from going on. `who` must act."""

    reason: Reason
    message: str
    who: Literal["user", "platform"] = "user"


@dataclass(frozen=True, slots=True)
class Report:
    """The newest message of one attempt's trainer, kept in memory by the status endpoint."""

    attempt: int
    received_at: datetime
    trainer: TrainerReport | None = None
    kubeflow: KubeflowTrainerStatus | None = None

    @property
    def stamp(self) -> str:
        """When it came, as the status keeps it: to the millisecond, so that two within a second are two."""
        return self.received_at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class RejectedWrite:
    """The API server refused a child (quota, admission): told in the status until a write succeeds."""

    reason: Reason
    message: str
    kind: str
    at: datetime


@dataclass(frozen=True, slots=True)
class ObservedJob:
    """Everything that matters to one FineTuneJob, as the Store shows it."""

    job: FineTuneJob
    profile: TrainingProfile | None
    """The profile that it names, or the default one."""
    storage: StorageProfile | None
    base_version: ModelVersion | None
    """What `modelversion://name` names."""
    trainer_jobs: tuple[Manifest, ...]
    """batch/v1 Jobs controlled by this FineTuneJob (by ownerReference uid), oldest attempt first."""
    pods: tuple[Manifest, ...]
    """Pods controlled by those Jobs."""
    report: Report | None
    """The newest report of the newest attempt."""
    version: ModelVersion | None
    """The ModelVersion named in `status.modelVersion`, when it exists."""
    rejected: RejectedWrite | None = None
    """The last write for this object that the API server refused, while the spec is the same."""
    rivals: tuple[ModelVersion, ...] = ()
    """Versions of the model that this job makes; only where a gate names the champion."""
    rollouts: tuple[ModelRollout, ...] = ()
    """Likewise its rollouts."""
    reward_version: ModelVersion | None = None
    """The ModelVersion that judges answers, where the objective names one."""

    @property
    def profile_spec(self) -> TrainingProfileSpec | None:
        """The profile as the job's first attempt found it; later edits do not touch a job that has started."""
        return self.job.status.resolved.profile or (self.profile.spec if self.profile else None)

    @property
    def storage_spec(self) -> StorageProfileSpec | None:
        """Likewise for the store."""
        return self.job.status.resolved.storage or (self.storage.spec if self.storage else None)

    def image(self, default: str) -> str:
        """The trainer's image: what the first attempt ran, else the profile's, else the one that came with the operator."""
        profile = self.profile_spec
        return self.job.status.resolved.image or (profile.image if profile else "") or default


@dataclass(frozen=True, slots=True)
class ObservedVersion:
    """A ModelVersion, what uses it, and the Jobs that look at it."""

    version: ModelVersion
    storage: StorageProfile | None
    rollouts: tuple[ModelRollout, ...]
    profile: TrainingProfile | None = None
    """The profile that trained it, or the default one: its Jobs run there."""
    siblings: tuple[ModelVersion, ...] = ()
    """All versions of the model; only where a gate names the champion."""
    reward_version: ModelVersion | None = None
    """The ModelVersion that judges answers, where the objective that it is measured by names one."""
    jobs: tuple[Manifest, ...] = ()
    """batch/v1 Jobs controlled by this ModelVersion."""
    pods: tuple[Manifest, ...] = ()
    """Pods controlled by those Jobs."""
    rejected: RejectedWrite | None = None
    dependents: tuple[str, ...] = ()
    """What else needs its bytes; looked up for a version that is being deleted."""
    namespace_is_going: bool = False
    """The namespace is being deleted: no Job can be made in it any more. Looked up likewise."""


@dataclass(frozen=True, slots=True)
class ServerNews:
    """The newest report of one server pod, kept in memory by the status endpoint."""

    pod: str
    """Its name."""
    uid: str
    received_at: datetime
    report: ServerReport


@dataclass(frozen=True, slots=True)
class DueMetric:
    """A measurement that should be taken now."""

    metric: Metric
    canary: str
    """ModelVersion."""
    stable: str
    """ModelVersion."""
    since: datetime
    """Counted from then on."""
    begun: str = ""
    """When the canary's step began."""
    taken: int = 0
    """Measurements before this one."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What was measured."""

    result: float | None = None
    """The canary's value."""
    champion: float | None = None
    """The stable version's."""
    waits: str = ""
    """Why it is too early to measure; empty when it is not."""
    error: str = ""
    """Why it could not be measured."""


@dataclass(frozen=True, slots=True)
class ServerSetting:
    """A version with the profiles that its servers are made from."""

    version: ModelVersion
    profile: TrainingProfile
    storage: StorageProfile


@dataclass(frozen=True, slots=True)
class ObservedInference:
    """The InferenceService of a rollout, read live in this pass."""

    name: str
    body: Manifest | None = None
    """None: see the problem."""
    problem: Problem | None = None
    """Why it cannot be read, or must not be written."""


@dataclass(frozen=True, slots=True)
class ObservedRollout:
    """A ModelRollout, the versions of its model, and its server."""

    rollout: ModelRollout
    versions: tuple[ModelVersion, ...]
    profile: TrainingProfile | None
    """Of the version that the spec asks for."""
    storage: StorageProfile | None
    """Likewise."""
    deployment: Manifest | None
    service: Manifest | None
    pods: tuple[Manifest, ...]
    rejected: RejectedWrite | None = None
    stable_profile: TrainingProfile | None = None
    """Of the stable version."""
    stable_storage: StorageProfile | None = None
    """Likewise."""
    reports: tuple[ServerNews, ...] = ()
    """What the servers among the pods said last."""
    listening_since: datetime | None = None
    """When this operator began to hear reports; None: long ago."""
    samples: Mapping[str, Sample] = field(default_factory=dict)
    """What was measured in this pass, by metric."""
    jobs: tuple[Manifest, ...] = ()
    """batch/v1 Jobs controlled by this ModelRollout: those of its analyses."""
    job_pods: tuple[Manifest, ...] = ()
    """Pods controlled by those Jobs."""
    inference: ObservedInference | None = None
    """Only with `serving.kserve`."""

    @property
    def wanted(self) -> ModelVersion | None:
        """The version that the spec asks for."""
        return self.version(self.rollout.spec.version)

    @property
    def stable(self) -> ModelVersion | None:
        """The version that serves and has proved itself, as long as it exists."""
        number = self.rollout.status.stable_version
        return self.version(number) if number is not None else None

    def version(self, number: int) -> ModelVersion | None:
        """The version of that number."""
        return next((version for version in self.versions if version.spec.version == number), None)

    @property
    def wanted_setting(self) -> ServerSetting | None:
        """What servers of the wanted version are made from."""
        return _setting(self.wanted, self.profile, self.storage)

    @property
    def stable_setting(self) -> ServerSetting | None:
        """What servers of the stable version are made from."""
        return _setting(self.stable, self.stable_profile, self.stable_storage)


def _setting(
    version: ModelVersion | None, profile: TrainingProfile | None, storage: StorageProfile | None
) -> ServerSetting | None:
    if version is None or profile is None or storage is None:
        return None
    return ServerSetting(version, profile, storage)


def uses(rollout: ModelRollout, version: ModelVersion) -> bool:
    """Whether a rollout wants that version, serves it, or has it on its way in or out."""
    if rollout.spec.model_name != version.spec.model_name:
        return False
    status = rollout.status
    used = {rollout.spec.version, status.stable_version, status.canary_version}
    told = {each.version for each in (*status.weights, *status.routing.versions)}
    return version.spec.version in used | told


def fit_on_one_server(one: ModelVersion, other: ModelVersion) -> bool:
    """Whether a server can have both in memory and weigh them against each other."""
    same = (one.spec.task, one.spec.storage) == (other.spec.task, other.spec.storage)
    return same and _is_same_base(one.spec.base_model, other.spec.base_model)


def _is_same_base(one: BaseModel, other: BaseModel) -> bool:
    """An import may not say the digest; servers compare it with the one that the artifact names in any case."""
    digests = {one.digest, other.digest} - {""}
    return (one.uri, one.revision) == (other.uri, other.revision) and len(digests) <= 1


@dataclass(frozen=True, slots=True)
class ObservedStorage:
    """A StorageProfile and the newest probe result that a trainer reported for it."""

    profile: StorageProfile
    report: TrainerReport | None


@dataclass(frozen=True, slots=True)
class ObservedProfile:
    """A TrainingProfile."""

    profile: TrainingProfile


class Stage(StrEnum):
    """Where the newest attempt of a FineTuneJob stands."""

    NONE = "None"
    """There is none, or it has ended."""
    CLAIMED = "Claimed"
    """Its number is taken; its Job is not there yet."""
    QUEUED = "Queued"
    """Its Job is suspended: the queue has no quota for it."""
    STARTING = "Starting"
    """Its pods are being made, scheduled, pulled."""
    RUNNING = "Running"
    """Every pod runs."""
    ENDING = "Ending"
    """Pods have ended; how the attempt ended is not settled."""


@dataclass(frozen=True, slots=True)
class Course:
    """What the plan decided about a FineTuneJob's attempts. The status of the same pass records it."""

    attempts: tuple[Attempt, ...] = ()
    """The attempts as they should be recorded. One that is new here gets its children once it is stored: that is the fence."""
    stage: Stage = Stage.NONE
    hang: Problem | None = None
    """Why pods that should run cannot."""
    retry_at: datetime | None = None
    """When the next attempt may start."""
    failure: Problem | None = None
    """Why the job has failed for good."""
    succeeded: bool = False
    """The job is done, and its model, if it makes one, has its ModelVersion."""
    termination: TerminationMessage | None = None
    """Last words of the newest attempt."""
    image_digest: str = ""
    """Trainer image as the node resolved it."""


@dataclass(frozen=True, slots=True)
class VersionCheck:
    """What the plan knows about the Job that looks at a ModelVersion. The status of the same pass records it."""

    job_name: str
    verify: str
    """Request that it answers."""
    evaluate: str | None
    """Request that it answers, when it measures too."""
    has_ended: bool = False
    words: TerminationMessage | None = None
    """What it found, or how it failed."""
    problem: Problem | None = None
    """Why it hangs, or why it has ended without a word."""


@dataclass(frozen=True, slots=True)
class Reclaim:
    """What the plan knows about the deletion of a ModelVersion's bytes. The status of the same pass records it."""

    users: tuple[str, ...] = ()
    """What it waits for, before anything is deleted."""
    check: VersionCheck | None = None
    """Its Job."""
    is_done: bool = False
    """The Job has deleted everything."""
    problem: Problem | None = None
    """Why there is none."""
    retry_at: datetime | None = None
    """When one that failed is made anew."""


@dataclass(frozen=True, slots=True)
class RolloutCourse:
    """What the plan decided about a ModelRollout's versions. The status of the same pass records it; servers hear of it afterwards."""

    stable: int | None
    canary: CanaryStatus | None
    step: int
    """Index of the canary's step."""
    routing: Routing
    confirmed: bool
    """Every server follows the stored routing."""
    analysis: tuple[MetricResult, ...] = ()
    history: tuple[Passage, ...] = ()
    action: HandledAction | None = None
    waits: Problem | None = None
    """What the rollout waits for, when it is on its way."""
    failure: Problem | None = None
    """What keeps it from going on until somebody acts."""
    notes: tuple["EventNote", ...] = ()
    """Events of this pass's decisions."""
    look_again: timedelta | None = None
    """When something is due, even if nothing happens."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What should be done now. Everything in it is safe to do twice."""

    prepare: tuple[Manifest, ...] = ()
    """Created while this pass's status is being stored: configuration that means nothing until what the status claims exists."""
    follow: tuple[Manifest, ...] = ()
    """Created as soon as this pass's status is stored and what is prepared is there; the next pass makes up for what fails."""
    create: tuple[Manifest, ...] = ()
    """Created once; an existing object of the same owner counts as done, another owner's is a NameConflict."""
    apply: tuple[Manifest, ...] = ()
    """Server-side apply with our field manager."""
    merge: tuple[Manifest, ...] = ()
    """Fields of objects that belong to somebody else: server-side apply as our field manager, without an owner. Never made anew."""
    delete: tuple[ObjectRef, ...] = ()
    """Deleted with preconditions, after a live read."""
    finalizer: bool | None = None
    """Whether our finalizer should keep the object; None: leave it as it is."""
    delete_owner: bool = False
    """The time to live is over: delete the object itself."""
    requeue_after: timedelta | None = None
    """Look again then, even if nothing happens."""
    course: Course | None = None
    """FineTuneJobs only: what was decided about the attempts."""
    check: VersionCheck | None = None
    """ModelVersions only: the Job that is wanted, or was and has an answer."""
    reclaim: Reclaim | None = None
    """ModelVersions only: the deletion of its bytes."""
    rollout: RolloutCourse | None = None
    """ModelRollouts only: what was decided about the versions."""
    configs: Mapping[str, ServerConfig] = field(default_factory=dict)
    """ModelRollouts only: what servers are told, by the key that their pods carry."""
    report_seconds: float = 8.0
    """ModelRollouts only: how often servers should report at least."""


@dataclass(frozen=True, slots=True)
class EventNote:
    """An Event to post after the status that it speaks of was stored."""

    type: Literal["Normal", "Warning"]
    reason: Reason
    message: str
    action: str = "Reconcile"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The new status, and the Events of its transitions."""

    status: Manifest
    """The whole `status` in wire form; written only when it differs from what is stored."""
    events: tuple[EventNote, ...] = field(default=())
