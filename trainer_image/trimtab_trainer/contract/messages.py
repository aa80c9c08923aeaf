"""What a trainer tells the operator. Every message is a snapshot, never a delta: a lost one is healed by the next."""

from typing import Final, Literal

from pydantic import Field

from trimtab_trainer.contract.base import Document
from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.gates import MAX_GATES, GateMeasurement
from trimtab_trainer.contract.methods import PublishedFormat
from trimtab_trainer.contract.run_config import ResolvedDataset

REPORT_SCHEMA: Final = "trimtab.dev/trainer-report/v1"
MAX_REPORTED_CHECKPOINTS = 20
MAX_REPORTED_METRICS = 64
MAX_TERMINATION_BYTES = 4096
"""Limit of the kubelet for a container's termination message."""

Phase = Literal["Preparing", "Training", "Evaluating", "Publishing", "Finished"]


class Progress(Document):
    """How far the run is."""

    step: int = 0
    total_steps: int | None = None
    epoch: float | None = None
    percent: int | None = Field(default=None, ge=0, le=100)
    eta_seconds: int | None = None
    tokens_per_second: float | None = None
    loss: float | None = None


class MetricValue(Document):
    """A metric's newest value, as text: no digit is lost."""

    name: str
    """Name, for example eval_loss."""
    value: str
    """Newest value."""


class CommittedCheckpoint(Document):
    """A checkpoint whose manifest is in the store."""

    step: int
    """Optimizer step that it holds."""
    attempt: int
    """Attempt that wrote it."""
    uri: str
    """`s3://` URI of the manifest."""
    manifest_sha256: str
    """SHA-256 of the manifest, which has the SHA-256 of every file."""
    bytes: int
    """Size of all files."""
    time: str
    """When it was committed: RFC 3339, UTC."""
    metrics: dict[str, float] = Field(default_factory=dict)
    """Metrics at that step."""


class RejectedCheckpoint(Document):
    """A checkpoint that a resume refused, and why."""

    step: int
    """Optimizer step that it claims to hold."""
    attempt: int
    """Attempt that wrote it."""
    uri: str
    """`s3://` URI of the manifest."""
    why: str
    """What did not match."""


class DataSummary(Document):
    """What the data check found, for one split."""

    split: str
    """train, validation, test or general."""
    examples: int
    """Examples that are used."""
    empty: int = 0
    """Left out, because there is nothing in them."""
    truncated: int = 0
    """Cut to the sequence length."""
    unsupervised: int = 0
    """Left out, because no token of theirs carries loss within the sequence length."""
    tokens: int = 0
    """Tokens of all examples."""
    supervised_tokens: int = 0
    """Tokens that carry loss."""


class StoreProbe(Document):
    """Result of the store's conformance probe."""

    conditional_writes: bool
    """Of several concurrent `If-None-Match: *` puts, exactly one won."""
    read_after_write: bool
    list_after_write: bool
    multipart: bool
    checked_at: str
    message: str = ""


class ModelSignature(Document):
    """A signature in the OpenSSF model signing format: manifest.sig beside the model."""

    key_id: str = Field(pattern=r"^[0-9a-f]{64}$")
    """SHA-256 of the public key's PEM."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """SHA-256 of manifest.sig."""


class PublishedModel(Document):
    """The model as it lies in the store, after its bytes were read back and compared."""

    name: str
    """Name of the ModelVersion that was reserved for it."""
    version: int
    """Its number."""
    uri: str
    """Folder of the files and of manifest.json."""
    manifest_sha256: str
    """SHA-256 of manifest.json."""
    size_bytes: int
    """Size of all files."""
    files: int
    """How many files."""
    format: PublishedFormat
    """What kind of model it is."""
    base_model_digest: str
    """Digest of the base model's files."""
    config_digest: str
    """Digest of the RunConfig."""
    step: int
    """Optimizer step of the published weights."""
    verified_at: str
    """When every byte was read back and compared."""
    signature: ModelSignature | None = None
    """Absent: nobody asked for one."""


class Verification(Document):
    """What came of reading a published model back from the store."""

    holds: bool
    """Every file is there and has the digest that its manifest states, and the manifest the one of the ModelVersion."""
    message: str = Field(default="", max_length=512)
    """What does not match, by file; or how much was read."""


class Usage(Document):
    """What this attempt has spent so far."""

    active_seconds: float = 0.0
    """Since the process started."""
    training_seconds: float = 0.0
    """Spent in steps that count: not start-up, not checkpoint stalls, not work that a resume repeats."""
    checkpoint_stall_seconds: float = 0.0
    energy_watt_hours: float | None = None
    energy_source: str = ""
    """Who counted it: RAPL, NVML, or the profile's watts."""
    co2_grams: float | None = None


class TrainerReport(Document):
    """The whole truth as this attempt knows it; POSTed to TRIMTAB_REPORT_URL at every change, at most every 2 s."""

    schema_: Literal["trimtab.dev/trainer-report/v1"] = Field(default=REPORT_SCHEMA, alias="schema")
    attempt: int
    phase: Phase
    progress: Progress = Field(default_factory=Progress)
    metrics: list[MetricValue] = Field(default_factory=list, max_length=MAX_REPORTED_METRICS)
    model_digest: str = ""
    datasets: list[ResolvedDataset] = Field(default_factory=list)
    data: list[DataSummary] = Field(default_factory=list)
    resumed_from_step: int | None = None
    rejected: list[RejectedCheckpoint] = Field(default_factory=list)
    checkpoints: list[CommittedCheckpoint] = Field(default_factory=list, max_length=MAX_REPORTED_CHECKPOINTS)
    """The newest ones that are in the store now, oldest first, those of earlier attempts too."""
    store_probe: StoreProbe | None = None
    usage: Usage = Field(default_factory=Usage)
    report_uri: str = ""
    warnings: list[str] = Field(default_factory=list, max_length=16)


class TerminationMessage(Document):
    """Written to the container's termination log: how the attempt ended, readable even while the operator is down."""

    schema_: Literal["trimtab.dev/termination/v1"] = Field(default="trimtab.dev/termination/v1", alias="schema")
    reason: TrainerReason | Literal["Succeeded"]
    message: str = Field(default="", max_length=1024)
    step: int = 0
    metrics: list[MetricValue] = Field(default_factory=list, max_length=8)
    last_checkpoint: CommittedCheckpoint | None = None
    published: PublishedModel | None = None
    report_uri: str = ""
    gates: list[GateMeasurement] = Field(default_factory=list, max_length=MAX_GATES)
    """The numbers of the gates, in the order of the RunConfig."""
    champion: str = ""
    """Name of the ModelVersion that was measured as champion; empty without one."""
    verification: Verification | None = None
    """Of a version job: whether the bytes are what was published."""


class VersionRequest(Document):
    """Ask for the next free version of the job's model. Asking again gives the same answer, unless it is `taken`."""

    attempt: int
    taken: list[int] = Field(default_factory=list, max_length=64)
    """Versions whose place in the store already holds somebody else's model."""


class VersionReply(Document):
    """The version that is reserved for this job."""

    name: str
    version: int


class KubeflowTrainerStatus(Document):
    """The part of KEP-2779's message that describes progress."""

    progress_percentage: int | None = Field(default=None, ge=0, le=100)
    estimated_remaining_seconds: int | None = Field(default=None, ge=0)
    metrics: list[MetricValue] = Field(default_factory=list, max_length=256)
    last_updated_time: str = ""


class KubeflowStatusUpdate(Document):
    """KEP-2779: the body that `transformers.KubeflowCallback` posts."""

    trainer_status: KubeflowTrainerStatus
