"""RunConfig: the one document that tells a trainer pod what to do. A pure function of job and profiles."""

from typing import Final, Literal

from pydantic import Field

from trimtab_trainer.contract import spec
from trimtab_trainer.contract.base import Document
from trimtab_trainer.contract.gates import Evaluation
from trimtab_trainer.contract.methods import ArtifactFormat, Method, PublishedFormat
from trimtab_trainer.contract.objectives import Objective

RUN_CONFIG_SCHEMA: Final = "trimtab.dev/run-config/v1"
VERSION_JOB_SCHEMA: Final = "trimtab.dev/version-job/v1"
SERVER_CONFIG_SCHEMA: Final = "trimtab.dev/server-config/v1"


class JobIdentity(Document):
    """Which FineTuneJob this is."""

    namespace: str
    name: str
    uid: str


class Store(Document):
    """The S3 store of the job's StorageProfile. Credentials are files in the pod, never in here."""

    profile: str
    """Name of the StorageProfile."""
    endpoint: str = ""
    """URL; empty for AWS."""
    region: str = "us-east-1"
    bucket: str
    prefix: str = ""
    """Key prefix without slashes at the ends."""
    ca_bundle: str = ""
    """PEM certificates to trust besides the system's."""
    path_style: bool = True
    """Bucket in the path instead of the host name."""
    credentials: Literal["secret", "webIdentity"] = "secret"
    web_identity_role_arn: str = ""
    probe: bool = False
    """Run the conformance probe before training and report its result."""


class ResolvedDataset(Document):
    """One data set file as it was read: later attempts must read the same bytes."""

    uri: str
    """Where the data is."""
    digest: str
    """`sha256:<hex>` of the data set's file listing with the digest of each file."""
    examples: int = 0
    """How many examples it has."""


class Pins(Document):
    """Digests of an earlier attempt. Other bytes are refused, so that a resumed run is the same run."""

    model: str = ""
    datasets: list[ResolvedDataset] = Field(default_factory=list)


class ResolvedModelVersion(Document):
    """What `modelversion://name` stands for: the artifact, and the base model under it."""

    name: str
    artifact_uri: str
    manifest_sha256: str
    format: ArtifactFormat
    base_model: spec.ModelSource


class RunConfig(Document):
    """Everything one attempt needs to know."""

    schema_: Literal["trimtab.dev/run-config/v1"] = Field(default=RUN_CONFIG_SCHEMA, alias="schema")
    job: JobIdentity
    attempt: int = Field(ge=1)
    model: spec.ModelSource
    model_version: ResolvedModelVersion | None = None
    task: spec.Task
    objective: Objective
    method: Method
    data: spec.Data
    training: spec.Training
    distribution: spec.Distribution
    checkpoints: spec.Checkpoints
    output: spec.Output
    evaluation: Evaluation | None = None
    """What the model must prove; absent without gates."""
    champion: ResolvedModelVersion | None = None
    """The version to compare with; absent when no gate names one, or there is none."""
    reward_model: ResolvedModelVersion | None = None
    """What `modelversion://` of a reward model stands for."""
    store: Store
    pins: Pins = Field(default_factory=Pins)
    image: str = ""
    """Image reference of this trainer, for the lineage."""
    memory_limit_bytes: int | None = None
    """Memory limit of the pod; the preflight refuses a model that cannot fit."""
    termination_grace_seconds: int = 120
    """Seconds between SIGTERM and SIGKILL."""
    watts: float | None = None
    """Power of one pod as the TrainingProfile states it, for the energy estimate."""
    carbon_intensity: float | None = None
    """Grams of CO2 per kWh."""


class VersionEvaluationConfig(Document):
    """What a version job measures."""

    objective: Objective
    data: spec.Data
    evaluation: Evaluation
    champion: ResolvedModelVersion | None = None
    reward_model: ResolvedModelVersion | None = None
    """What `modelversion://` of a reward model stands for."""
    seed: int = 42
    precision: Literal["auto", "float32", "bfloat16"] = "auto"


class VersionImport(Document):
    """A model that lies somewhere in the store, to be published as this version."""

    uri: str
    format: Literal["peftAdapter", "safetensors"]
    name: str
    model_name: str
    version: int
    uid: str
    """Of the ModelVersion: whoever finds its own mark at the version's place goes on with its own work."""
    base_model: spec.ModelSource


class VersionDeletion(Document):
    """A version whose bytes are to go."""

    name: str
    model_name: str
    version: int
    uid: str
    """Of the ModelVersion: what an import that was never published has written carries it."""
    manifest_sha256: str = ""
    """Of what was published; another manifest at the version's place is not touched. Empty: nothing was published."""


class SignaturePolicy(Document):
    """Whose signatures a server believes."""

    public_keys: list[str] = Field(default_factory=list)
    """PEM. Empty: signatures are not looked at."""
    required: bool = False
    """Versions without a signature are refused too."""


class VersionJobConfig(Document):
    """Everything that a pod needs to know which looks at a published version: reads it back, and measures it if asked to."""

    schema_: Literal["trimtab.dev/version-job/v1"] = Field(default=VERSION_JOB_SCHEMA, alias="schema")
    namespace: str
    version: ResolvedModelVersion | None = None
    """Absent while it is to be imported."""
    import_from: VersionImport | None = None
    """Publish this first."""
    task: spec.Task
    store: Store
    signatures: SignaturePolicy = Field(default_factory=SignaturePolicy)
    """Whose signatures are believed."""
    signed: bool = False
    """The ModelVersion has a signature: one that is gone from the store is missed."""
    evaluate: VersionEvaluationConfig | None = None
    """Absent: only verify."""
    accelerators: int = 0
    delete: VersionDeletion | None = None
    """Delete this version's bytes, and look at nothing."""


class ServedVersion(Document):
    """One model version that a server offers."""

    name: str
    """Model name in requests: the ModelVersion's name."""
    version: int
    artifact_uri: str
    manifest_sha256: str
    format: PublishedFormat
    max_sequence_length: int | None = Field(default=None, ge=8)
    """Tokens, patches or frames of one example, as it was trained; absent: the server's. Text generation takes the server's."""
    signed: bool = False
    """The ModelVersion has a signature: one that is gone from the store is missed."""
    weight: int = Field(default=100, ge=0, le=100)
    """Share of the requests to `modelName`, in percent."""


class ServerConfig(Document):
    """Everything the built-in server needs to know."""

    schema_: Literal["trimtab.dev/server-config/v1"] = Field(default=SERVER_CONFIG_SCHEMA, alias="schema")
    rollout: JobIdentity
    model_name: str
    """Requests for this name are routed by weight; a version's own name goes to that version."""
    task: spec.Task
    base_model: spec.ModelSource
    """With a digest: other bytes are refused."""
    versions: list[ServedVersion] = Field(min_length=1)
    revision: int = 0
    """Grows with every change of versions or weights: an older document never takes the place of a newer one."""
    sticky: bool = True
    """Requests with the same `user` are answered by the same version as long as the weights stay."""
    store: Store
    signatures: SignaturePolicy = Field(default_factory=SignaturePolicy)
    """What is checked before a version's weights are loaded, beside every digest."""
    max_sequence_length: int = 4096
    """Tokens of prompt and answer together; the base model's own limit holds too."""
    max_concurrent_requests: int = Field(default=8, ge=1, le=256)
    """Requests that generate together, in one batch."""
    max_waiting_requests: int = Field(default=64, ge=0)
    """Requests that may wait beside them; one more is answered 429."""
    offer_base_model: bool = True
    """Answer for the model name `base` too. Where every version is a whole model, that takes the base model's memory. False before vLLM: it is
    started with the first version, a whole model."""
    termination_grace_seconds: int = Field(default=60, ge=1)
    """Seconds between SIGTERM and SIGKILL: open requests may take as long, less a margin."""
