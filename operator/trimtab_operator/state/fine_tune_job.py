"""A FineTuneJob: what is observed of it, and what was decided about its attempts."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from trimtab_operator.api.v1alpha1 import FineTuneJob, ModelRollout, ModelVersion, StorageProfile, TrainingProfile
from trimtab_operator.api.v1alpha1.fine_tune_job import Attempt
from trimtab_operator.api.v1alpha1.storage_profile import StorageProfileSpec
from trimtab_operator.api.v1alpha1.training_profile import TrainingProfileSpec
from trimtab_operator.state.objects import Manifest, Problem, RejectedWrite
from trimtab_trainer.contract.messages import KubeflowTrainerStatus, TerminationMessage, TrainerReport


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
