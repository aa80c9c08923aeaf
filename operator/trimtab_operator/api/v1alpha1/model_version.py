"""ModelVersion: one immutable version of a named model."""

from typing import ClassVar, Literal

from pydantic import Field

from trimtab_operator.api.common import ApiObject, Column, Resource, StatusModel
from trimtab_operator.api.v1alpha1.gates import GateResult
from trimtab_trainer.contract.base import Document, rules
from trimtab_trainer.contract.gates import MAX_GATES, Gate
from trimtab_trainer.contract.messages import MetricValue, ModelSignature
from trimtab_trainer.contract.methods import ArtifactFormat
from trimtab_trainer.contract.objectives import Objective, Supervised
from trimtab_trainer.contract.run_config import ResolvedDataset
from trimtab_trainer.contract.spec import Data, Task

# Not `modelName + '-v' + string(version)`: the API server cannot bound what comparing that costs.
_NAME_RULE = (
    "self.metadata.name.startsWith(self.spec.modelName + '-v') && "
    "self.metadata.name.substring(size(self.spec.modelName) + 2).matches('^[1-9][0-9]{0,8}$') && "
    "int(self.metadata.name.substring(size(self.spec.modelName) + 2)) == self.spec.version"
)


class VersionSource(Document):
    """The run that made it."""

    name: str = Field(max_length=253)
    """FineTuneJob."""
    uid: str = Field(max_length=36)
    """uid of the FineTuneJob."""
    attempt: int = Field(ge=1)
    """Attempt that published it."""
    step: int = Field(ge=0)
    """Optimizer step of the published weights."""


class BaseModel(Document):
    """The model that was fine-tuned."""

    uri: str = Field(max_length=1024)
    """Where it is."""
    digest: str = Field(default="", max_length=71)
    """Digest of its files."""
    revision: str = Field(default="", max_length=128)
    """Commit of an hf:// model."""
    secret_name: str = Field(default="", max_length=253)
    """Secret of this namespace whose key `HF_TOKEN` opens a gated hf:// model: the pods that serve or measure the version read it."""


class Artifact(Document):
    """The bytes."""

    uri: str = Field(max_length=1024, pattern=r"^s3://[^/]+/.+$")
    """Folder of the files and of manifest.json."""
    manifest_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """SHA-256 of manifest.json, which has the SHA-256 of every file."""
    size_bytes: int = Field(ge=0)
    """Size of all files."""
    format: ArtifactFormat
    """What kind of model it is."""
    files: int = Field(ge=0)
    """How many files."""


class VersionLineage(Document):
    """Enough to run the job again."""

    datasets: list[ResolvedDataset] = Field(default_factory=list, max_length=128)
    """Data sets with their digests."""
    config_digest: str = Field(default="", max_length=71)
    """Digest of the RunConfig."""
    image_digest: str = Field(default="", max_length=512)
    """Trainer image."""
    parent_version: str = Field(default="", max_length=253)
    """ModelVersion that was the base model."""


class ImportSource(Document):
    """A model or adapter that lies in an S3 store and that Trimtab has not published."""

    uri: str = Field(max_length=1024, pattern=r"^s3://[^/]+/.+$")
    """Its folder, in any bucket that the credentials of `storage` open. It is copied; what lies there stays untouched."""
    format: Literal["peftAdapter", "safetensors"]
    """An adapter of peft (adapter_config.json, adapter_model.safetensors), or a whole model of transformers."""


class VersionEvaluation(Document):
    """What the version has to prove, and on what: enough to measure it again."""

    gates: list[Gate] = Field(min_length=1, max_length=MAX_GATES)
    """Conditions on metrics."""
    data: Data
    """The splits that are measured. `train` is read only to hold out `validationFraction`."""
    objective: Objective = Field(default_factory=lambda: Objective(supervised=Supervised()))
    """Which tokens carry loss."""
    seed: int = Field(default=42, ge=0, le=4294967295)
    """Of the run that made it."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the run that made it: numbers of another one differ in the fourth digit."""
    accelerators: int = Field(default=0, ge=0, le=1)
    """Accelerators of the pod that measures it; 0 measures on CPU."""


class ModelVersionSpec(Document):
    """Immutable."""

    model_config = rules(
        ("self == oldSelf", "spec is immutable: publish a new version instead"),
        ("has(self.artifact) != has(self.importFrom)", "exactly one of artifact and importFrom must be set"),
    )

    model_name: str = Field(max_length=50, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    """Name that the versions of this model share."""
    version: int = Field(ge=1, le=999_999_999)
    """Number of this version."""
    version_label: str = Field(default="", max_length=63)
    """A word for humans."""
    task: Task | None = None
    """What the head predicts."""
    max_sequence_length: int | None = Field(default=None, ge=8, le=131072)
    """Tokens, patches or frames to which training cut examples: servers read windows of the same length. Text generation is not
    bound by it. Absent: the server's limit."""
    source: VersionSource | None = None
    """The run that made it; absent for imports."""
    base_model: BaseModel
    """The model that was fine-tuned."""
    artifact: Artifact | None = None
    """The bytes; absent for imports, whose bytes are in `status.artifact` once a Job has published a copy."""
    import_from: ImportSource | None = None
    """Publish a copy of this. Instead of `artifact`."""
    storage: str = Field(max_length=253)
    """StorageProfile that holds the artifact."""
    profile: str = Field(default="", max_length=253)
    """TrainingProfile whose image and resources serve it unless the rollout names another."""
    lineage: VersionLineage = Field(default_factory=VersionLineage)
    """Enough to run the job again."""
    metrics: list[MetricValue] = Field(default_factory=list, max_length=64)
    """Metrics of the published weights."""
    evaluation: VersionEvaluation | None = None
    """What it has to prove. Absent: nothing stands in the way of promotion."""
    gates: list[GateResult] = Field(default_factory=list, max_length=MAX_GATES)
    """What the gates came to when it was published. Later evaluations are in `status.evaluation`."""
    signature: ModelSignature | None = None
    """Signature of the manifest, `manifest.sig` beside it. Absent: it is not signed."""
    verified_at: str = Field(default="", max_length=64)
    """When the publishing trainer read every byte back and compared digests."""
    reclaim_policy: Literal["Retain", "Delete"] = "Retain"
    """What happens to the bytes when this object is deleted. `Delete` deletes what Trimtab published for this very version, once nothing
    uses it any more; the object stays until then. The annotation `trimtab.dev/reclaim` outranks it."""


class VersionVerification(Document):
    """The last time that a Job read every byte back."""

    request: str = Field(default="", max_length=253)
    """Value of the annotation `trimtab.dev/verify` that asked for it."""
    job_name: str = Field(max_length=63)
    """The Job."""
    time: str
    """When its result was read."""
    holds: bool | None = None
    """Whether the bytes match their digests; absent where the Job could not tell."""
    reason: str = Field(default="", max_length=64)
    """Why it could not."""
    message: str = Field(default="", max_length=1024)
    """What does not match, or what was read."""


class VersionEvaluationResult(Document):
    """The last time that a Job measured this version."""

    request: str = Field(default="", max_length=253)
    """Value of the annotation `trimtab.dev/evaluate` that asked for it."""
    job_name: str = Field(max_length=63)
    """The Job."""
    time: str
    """When its result was read."""
    champion: str = Field(default="", max_length=253)
    """ModelVersion that it was compared with."""
    gates: list[GateResult] = Field(default_factory=list, max_length=MAX_GATES)
    """What the gates came to; they outrank those of the spec."""
    reason: str = Field(default="", max_length=64)
    """Why nothing was measured."""
    message: str = Field(default="", max_length=1024)
    """The same in a sentence."""


class VersionReclaim(Document):
    """The deletion of the bytes. From its beginning on nothing may begin to use this version."""

    started_at: str
    """When the first Job was made."""
    job_name: str = Field(max_length=63)
    """The newest one."""
    failed_at: str = ""
    """When it was seen to have failed; empty while it has not."""
    done_at: str = ""
    """When the bytes were seen to be gone."""
    message: str = Field(default="", max_length=1024)
    """What was deleted, or what went wrong."""


class ModelVersionStatus(StatusModel):
    """What is true now."""

    artifact: Artifact | None = None
    """The bytes of an import, as the Job that copied them has published and read them back."""
    verification: VersionVerification | None = None
    """The last time that a Job read every byte back."""
    evaluation: VersionEvaluationResult | None = None
    """The last time that a Job measured this version."""
    rollouts: list[str] = Field(default_factory=list, max_length=64)
    """ModelRollouts that use this version."""
    reclaim: VersionReclaim | None = None
    """The deletion of the bytes."""


class ModelVersion(ApiObject):
    """One immutable version of a named model."""

    resource: ClassVar[Resource] = Resource(
        kind="ModelVersion",
        plural="modelversions",
        short_name="mdv",
        scope="Namespaced",
        columns=(
            Column("MODEL", "string", ".spec.modelName"),
            Column("VERSION", "integer", ".spec.version"),
            Column("FORMAT", "string", ".spec.artifact.format"),
            Column("READY", "string", ".status.conditions[?(@.type=='Ready')].status"),
            Column("PROMOTABLE", "string", ".status.conditions[?(@.type=='Promotable')].status"),
            Column("AGE", "date", ".metadata.creationTimestamp"),
            Column("JOB", "string", ".spec.source.name", priority=1),
        ),
        rules=(
            (
                _NAME_RULE,
                "metadata.name must be <spec.modelName>-v<spec.version>",
            ),
        ),
    )

    spec: ModelVersionSpec
    """Immutable."""
    status: ModelVersionStatus = Field(default_factory=ModelVersionStatus)
    """What is true now."""

    @property
    def artifact(self) -> Artifact | None:
        """The bytes; None while an import is not published."""
        return self.spec.artifact or self.status.artifact

    @property
    def published(self) -> Artifact:
        """The bytes of a version that is known to have them.

        Raises:
            LookupError: an import that is not published yet; validation keeps others from using it.
        """
        if self.artifact is None:
            raise LookupError(f"ModelVersion {self.metadata.name} is not imported yet")
        return self.artifact
