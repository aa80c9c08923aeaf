"""FineTuneJob: one fine-tuning run."""

from typing import ClassVar, Literal

from pydantic import ConfigDict, Field, JsonValue

from trimtab_operator.api.common import BY_FIELD, IMMUTABLE, ApiObject, Column, Resource, StatusModel
from trimtab_operator.api.rules import at_creation
from trimtab_operator.api.v1alpha1.gates import GateResult
from trimtab_operator.api.v1alpha1.method_rules import METHOD_RULES
from trimtab_operator.api.v1alpha1.storage_profile import StorageProfileSpec
from trimtab_operator.api.v1alpha1.training_profile import TrainingProfileSpec
from trimtab_trainer.contract import spec
from trimtab_trainer.contract.base import Document
from trimtab_trainer.contract.gates import MAX_GATES, Evaluation
from trimtab_trainer.contract.messages import (
    CommittedCheckpoint,
    DataSummary,
    MetricValue,
    PublishedModel,
    RejectedCheckpoint,
)
from trimtab_trainer.contract.methods import Method
from trimtab_trainer.contract.objectives import Objective, Supervised, sampling_rules, task_rules
from trimtab_trainer.contract.run_config import ResolvedDataset


def _gates_need(source: str, has_data: str, needs: str) -> dict[str, JsonValue]:
    return {
        # Both have defaults. Most jobs have no gates: the cheap question comes first.
        "rule": f"self.evaluation.gates.all(gate, gate.source != '{source}') || {has_data}",
        "message": f"evaluation.gates: a gate on {source} data needs {needs}",
    }


_JOB_RULES: list[dict[str, JsonValue]] = [
    _gates_need(
        "validation",
        "size(self.data.validation) > 0 || has(self.data.validationFraction)",
        "data.validation or data.validationFraction",
    ),
    _gates_need("test", "size(self.data.test) > 0", "data.test"),
    _gates_need("general", "size(self.data.general) > 0", "data.general"),
    {
        "rule": "!has(self.training.earlyStopping) || size(self.data.validation) > 0 || has(self.data.validationFraction)",
        "message": "training.earlyStopping needs validation data: set data.validation or data.validationFraction",
    },
    {
        "rule": "!has(self.training.selectBestBy) || size(self.data.validation) > 0 || has(self.data.validationFraction)",
        "message": "training.selectBestBy needs validation data: set data.validation or data.validationFraction",
    },
    *METHOD_RULES,
    *task_rules(),
    *sampling_rules(),
]
_CHECKPOINTS_FROZEN: dict[str, JsonValue] = dict.fromkeys(
    ("everySteps", "everySeconds", "resume"), "spec.checkpoints is immutable but for keepLast and keepBest"
)


class RunPolicy(Document):
    """How long and how often to try."""

    max_attempts: int = Field(default=4, ge=1, le=100)
    """Attempts in all. Failures that trying again cannot heal end the job at once; suspensions do not count."""
    active_deadline_seconds: int | None = Field(default=None, ge=1)
    """Seconds of running, added up over all attempts, after which the job is saved and stopped."""
    ttl_seconds_after_finished: int | None = Field(default=None, ge=0)
    """Seconds after the end until the job and its pods are deleted. Models and checkpoints stay."""
    priority_class_name: str = Field(default="", max_length=253)
    """PriorityClass of the pods."""
    queue_name: str = Field(default="", max_length=63)
    """LocalQueue of Kueue: the attempt starts suspended and waits for quota."""


class Budget(Document):
    """What the job may spend. It is saved and stopped when it is spent."""

    max_accelerator_hours: float | None = Field(default=None, gt=0)
    """Hours of one accelerator (on CPU profiles: of one pod)."""
    max_cost: float | None = Field(default=None, gt=0)
    """Cost in the currency of the profile's pricePerHour."""


class FineTuneJobSpec(Document):
    """What to train, on what, how, and for how long. Immutable but for suspend, runPolicy, budget and checkpoints.keep*."""

    model_config = ConfigDict(
        json_schema_extra={
            IMMUTABLE: [
                "profile",
                "storage",
                "model",
                "task",
                "objective",
                "method",
                "data",
                "training",
                "distribution",
                "evaluation",
                "output",
                "managedBy",
            ],
            # All of them are about parts that cannot change.
            "x-kubernetes-validations": [at_creation(rule) for rule in _JOB_RULES],
        }
    )

    profile: str | None = Field(default=None, min_length=1, max_length=253)
    """TrainingProfile to run on. Absent: the default one."""
    storage: str | None = Field(default=None, min_length=1, max_length=253)
    """StorageProfile for checkpoints and models. Absent: the default one."""
    model: spec.ModelSource
    """The base model."""
    task: spec.Task
    """What the head predicts. Exactly one member."""
    objective: Objective = Field(default_factory=lambda: Objective(supervised=Supervised()))
    """What the loss asks. Exactly one member."""
    method: Method = Field(json_schema_extra={BY_FIELD: True})
    """Which parameters move. Exactly one member."""
    data: spec.Data
    """What to train, validate and test on."""
    training: spec.Training = Field(default_factory=spec.Training)
    """How to train."""
    distribution: spec.Distribution = Field(default_factory=spec.Distribution)
    """Over how many pods and accelerators."""
    checkpoints: spec.Checkpoints = Field(
        default_factory=spec.Checkpoints, json_schema_extra={IMMUTABLE: _CHECKPOINTS_FROZEN}
    )
    """When to save, and what to keep."""
    evaluation: Evaluation = Field(default_factory=Evaluation)
    """What the model must prove."""
    output: spec.Output
    """What comes out."""
    run_policy: RunPolicy = Field(default_factory=RunPolicy)
    """How long and how often to try."""
    budget: Budget = Field(default_factory=Budget)
    """What the job may spend."""
    suspend: bool = False
    """True: save a checkpoint, commit it and give back all resources. False again: continue from there."""
    managed_by: str = Field(default="trimtab.dev/operator", max_length=63, pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$")
    """Who reconciles this job. Other values than trimtab.dev/operator are left alone."""


class Resolved(Document):
    """What the references stood for when the job first ran; later attempts use the same."""

    model_digest: str = ""
    """Digest of the base model's files."""
    datasets: list[ResolvedDataset] = Field(default_factory=list, max_length=128)
    """Digest and size of every data set."""
    image: str = ""
    """Trainer image."""
    image_digest: str = ""
    """Trainer image as the node resolved it."""
    profile_name: str = ""
    """Name of the TrainingProfile."""
    profile: TrainingProfileSpec | None = Field(
        default=None, json_schema_extra={"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    )
    """The TrainingProfile as it was at the first reconcile."""
    storage_name: str = ""
    """Name of the StorageProfile."""
    storage: StorageProfileSpec | None = Field(
        default=None, json_schema_extra={"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    )
    """The StorageProfile as it was at the first reconcile."""


class Attempt(Document):
    """One life of the trainer's Job."""

    number: int
    """1 for the first."""
    job_name: str
    """Name of the Job."""
    job_uid: str = ""
    """uid of the Job; empty until it is seen."""
    start_time: str | None = None
    """When its first pod ran."""
    end_time: str | None = None
    """When it ended."""
    active_seconds: float = 0.0
    """Seconds between the two."""
    reason: str = ""
    """Why it ended; empty while it lives."""
    message: str = Field(default="", max_length=1024)
    """Why it ended, as a sentence."""
    stopping_for: str = ""
    """Why it is being stopped: Suspended, DeadlineExceeded or BudgetExceeded."""
    counted: bool = True
    """Whether it counts against runPolicy.maxAttempts. Suspensions do not, nor do disruptions of an attempt that committed a checkpoint."""
    resumed_from_step: int | None = None
    """The step it continued from; absent when it began at 0."""
    node: str = ""
    """Node of the main pod."""
    training_seconds: float = 0.0
    """Seconds spent in training steps that count, as the trainer reported them."""
    energy_watt_hours: float | None = None
    """Energy as the trainer measured or estimated it."""
    energy_source: str = ""
    """Who counted it: RAPL, NVML, or the profile's watts."""


class JobProgress(Document):
    """How far the run is."""

    phase: str = ""
    """What the trainer is doing: Preparing, Training, Evaluating, Publishing or Finished."""
    step: int = 0
    """Optimizer steps done."""
    total_steps: int | None = None
    """Optimizer steps in all."""
    epoch: float | None = None
    """Passes over the training split."""
    percent: int | None = None
    """Share done."""
    eta_seconds: int | None = None
    """Estimated seconds to go."""
    eta: str = ""
    """The same for humans."""
    tokens_per_second: float | None = None
    """Training throughput."""
    loss: float | None = None
    """Newest training loss."""
    last_report_time: str | None = None
    """When the trainer last reported."""


class JobUsage(Document):
    """What the job has used, over all attempts."""

    accelerator_seconds: float = 0.0
    """Accelerators times active seconds."""
    cpu_seconds: float = 0.0
    """Requested CPUs times active seconds."""
    goodput_percent: float | None = None
    """Share of active time spent in training steps that count."""
    cost: float | None = None
    """By the profile's pricePerHour."""
    energy_watt_hours: float | None = None
    """As the trainer counted it, else by the profile's watts."""
    energy_source: str = ""
    """Who counted the newest attempt's energy."""
    co2_grams: float | None = Field(default=None, alias="co2Grams")
    """By the profile's carbonIntensity."""


class FineTuneJobStatus(StatusModel):
    """What is true now."""

    state: str = ""
    """One word for humans, derived from the conditions."""
    resolved: Resolved = Field(default_factory=Resolved)
    """What the references stood for when the job first ran."""
    attempts: list[Attempt] = Field(default_factory=list, max_length=200)
    """Lives of the trainer, oldest first."""
    progress: JobProgress = Field(default_factory=JobProgress)
    """How far the run is."""
    metrics: list[MetricValue] = Field(default_factory=list, max_length=64)
    """Newest value of each metric."""
    data: list[DataSummary] = Field(default_factory=list, max_length=16)
    """What the data check found in each split."""
    checkpoints: list[CommittedCheckpoint] = Field(default_factory=list, max_length=20)
    """The newest committed checkpoints, oldest first."""
    last_checkpoint: CommittedCheckpoint | None = None
    """The newest committed checkpoint."""
    rejected_checkpoints: list[RejectedCheckpoint] = Field(default_factory=list, max_length=20)
    """Checkpoints whose bytes did not match; older ones were used instead."""
    usage: JobUsage = Field(default_factory=JobUsage)
    """What the job has used."""
    model_version: str = ""
    """Name of the ModelVersion that is reserved for, or made by, this job."""
    published: PublishedModel | None = None
    """The published model, as its trainer verified it."""
    gates: list[GateResult] = Field(default_factory=list, max_length=MAX_GATES)
    """What the evaluation gates came to."""
    report_uri: str = Field(default="", alias="reportURI")
    """Where the report is."""
    warnings: list[str] = Field(default_factory=list, max_length=16)
    """What the trainer wants you to know."""
    start_time: str | None = None
    """When the first attempt ran."""
    completion_time: str | None = None
    """When the job came to rest as Complete or Failed."""

    @property
    def is_finished(self) -> bool:
        """Whether the job is at rest for ever."""
        return self.is_true("Complete") or self.is_true("Failed")

    @property
    def open_attempt(self) -> Attempt | None:
        """The attempt that has not ended."""
        return self.attempts[-1] if self.attempts and self.attempts[-1].end_time is None else None


class FineTuneJob(ApiObject):
    """One fine-tuning run."""

    resource: ClassVar[Resource] = Resource(
        kind="FineTuneJob",
        plural="finetunejobs",
        short_name="ftj",
        scope="Namespaced",
        columns=(
            Column("STATE", "string", ".status.state"),
            Column("STEP", "integer", ".status.progress.step"),
            Column("LOSS", "number", ".status.progress.loss"),
            Column("ETA", "string", ".status.progress.eta"),
            Column("AGE", "date", ".metadata.creationTimestamp"),
            Column("VERSION", "string", ".status.modelVersion", priority=1),
            Column("ATTEMPT", "integer", ".status.attempts[-1:].number", priority=1),
        ),
        rules=(
            (
                "size(self.metadata.name) <= 52",
                "metadata.name must be at most 52 characters: the names of its Jobs are longer",
            ),
            (
                "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
                "metadata.name must begin with a letter and have only letters, digits and '-': it names pods and a Service",
            ),
        ),
    )

    spec: FineTuneJobSpec
    """What to train, on what, how, and for how long."""
    status: FineTuneJobStatus = Field(default_factory=FineTuneJobStatus)
    """What is true now."""


JobState = Literal[
    "Pending", "Rejected", "Queued", "Starting", "Running", "Evaluating", "Publishing", "Suspending", "Suspended", "Retrying", "Stopping",
    "Complete", "Failed",
]  # fmt: skip
"""The words of `status.state`."""
