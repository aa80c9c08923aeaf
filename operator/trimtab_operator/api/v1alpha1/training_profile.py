"""TrainingProfile: what an administrator lets jobs run on."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.alias_generators import to_camel

from trimtab_operator.api.common import ApiObject, Column, LabelValue, ObjectName, Quantity, Resource, StatusModel
from trimtab_trainer.contract.base import Document, rules
from trimtab_trainer.contract.methods import Method
from trimtab_trainer.contract.spec import Task


class ResourceRequirements(Document):
    """Resources of one pod."""

    requests: dict[str, Quantity] = Field(default_factory=dict, max_length=16)
    """What the scheduler sets aside."""
    limits: dict[str, Quantity] = Field(default_factory=dict, max_length=16)
    """What the pod may use at most. The memory limit is what the preflight compares a model with."""


class Toleration(Document):
    """A taint that the pods tolerate."""

    model_config = rules(
        ("self.operator == 'Equal' || self.value == ''", "operator Exists takes no value"),
        ("self.operator == 'Exists' || self.key != ''", "an empty key needs operator Exists"),
        ("!has(self.tolerationSeconds) || self.effect == 'NoExecute'", "tolerationSeconds needs effect NoExecute"),
    )

    key: str = Field(default="", max_length=316)
    """The taint's key; empty with operator Exists tolerates all."""
    operator: Literal["Exists", "Equal"] = "Equal"
    """How the value is compared."""
    value: str = Field(default="", max_length=63)
    """The taint's value."""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""
    """The taint's effect; empty matches all."""
    toleration_seconds: int | None = None
    """How long a NoExecute taint is tolerated."""


class EnvironmentVariable(Document):
    """A variable of the trainer and server containers, chosen by the administrator."""

    name: str = Field(min_length=1, max_length=253)
    """Name, for example HF_ENDPOINT."""
    value: str = Field(default="", max_length=4096)
    """Value."""


TaskName = Annotated[str, Field(json_schema_extra={"enum": [to_camel(name) for name in Task.model_fields]})]
MethodName = Annotated[str, Field(json_schema_extra={"enum": [to_camel(name) for name in Method.model_fields]})]


class Allowed(Document):
    """What jobs may ask for."""

    tasks: list[TaskName] = Field(default_factory=list, max_length=16)
    """Members of `task`, for example causalLanguageModeling. Empty: all."""
    methods: list[MethodName] = Field(default_factory=list, max_length=16)
    """Members of `method`, for example lora. Empty: all."""
    model_uris: list[str] = Field(default_factory=list, alias="modelURIs", max_length=64)
    """Prefixes of model URIs, for example s3://models/ or hf://our-org/. Empty: all."""


class ProfileLimits(Document):
    """Upper limits of one job."""

    max_nodes: int | None = Field(default=None, ge=1)
    """Pods of one attempt."""
    max_accelerators_per_node: int | None = Field(default=None, ge=0)
    """Accelerators of one pod."""
    max_active_deadline_seconds: int | None = Field(default=None, ge=1)
    """Longest activeDeadlineSeconds; also the deadline of jobs that name none."""
    max_sequence_length: int | None = Field(default=None, ge=8)
    """Longest data.maxSequenceLength."""


class Signing(Document):
    """Who signs models, and whose signatures servers believe. Private keys stay in Secrets that the operator never reads."""

    model_config = rules(
        (
            "!has(self.required) || !self.required || size(self.publicKeys) > 0",
            "required needs publicKeys to verify signatures by",
        ),
    )

    secret_name: str = Field(default="", max_length=253)
    """Secret of a job's namespace whose key `signing.key` signs models of jobs with `output.sign`, unless they name another."""
    public_keys: list[
        Annotated[
            str,
            Field(
                max_length=4096, pattern=r"^-----BEGIN PUBLIC KEY-----\n[A-Za-z0-9+/=\n]+-----END PUBLIC KEY-----\n?$"
            ),
        ]
    ] = Field(default_factory=list, max_length=8)
    """Elliptic-curve public keys in PEM (P-256, P-384, P-521). A version with a signature is served only when it holds by one of them."""
    required: bool = False
    """Versions without a signature are not promotable, and servers refuse them."""


class TrainingProfileSpec(Document):
    """Image, resources, placement and limits of training."""

    model_config = rules(
        (
            "self.runtimeClassName == '' || self.resourceClaimTemplateName == ''",
            "runtimeClassName and resourceClaimTemplateName are exclusive",
        ),
    )

    image: str = Field(default="", max_length=512)
    """Trainer image. Empty: the image that came with the operator."""
    command: list[str] = Field(default_factory=list, max_length=64)
    """Command of a custom trainer image. Such a trainer reports through KEP-2779 and publishes no ModelVersion."""
    server_image: str = Field(default="", max_length=512)
    """Image of the built-in server. Empty: `image`."""
    image_pull_policy: Literal["IfNotPresent", "Always", "Never"] = "IfNotPresent"
    """When to pull."""
    image_pull_secrets: list[ObjectName] = Field(default_factory=list, max_length=8)
    """Secrets of the job's namespace with registry credentials."""
    resources: ResourceRequirements = Field(default_factory=ResourceRequirements)
    """Resources of one trainer pod, without accelerators."""
    server_resources: ResourceRequirements = Field(default_factory=ResourceRequirements)
    """Resources of one server pod."""
    accelerator_resource: str = Field(default="nvidia.com/gpu", max_length=253)
    """Extended resource that `distribution.acceleratorsPerNode` counts."""
    resource_claim_template_name: str = Field(default="", max_length=253)
    """ResourceClaimTemplate of the job's namespace (dynamic resource allocation), instead of the extended resource."""
    runtime_class_name: str = Field(default="", max_length=253)
    """RuntimeClass of the pods."""
    node_selector: dict[str, LabelValue] = Field(default_factory=dict, max_length=32)
    """Labels of the nodes to run on."""
    tolerations: list[Toleration] = Field(default_factory=list, max_length=32)
    """Taints that the pods tolerate."""
    environment: list[EnvironmentVariable] = Field(default_factory=list, max_length=64)
    """Further environment of the containers, for example HF_ENDPOINT."""
    scratch_size: Quantity = "20Gi"
    """Size limit of the scratch volume: model, data and checkpoints on their way."""
    termination_grace_period_seconds: int = Field(default=120, ge=5, le=3600)
    """Time to save and commit a checkpoint after SIGTERM."""
    allowed: Allowed = Field(default_factory=Allowed)
    """What jobs may ask for."""
    limits: ProfileLimits = Field(default_factory=ProfileLimits)
    """Upper limits of one job."""
    signing: Signing = Field(default_factory=Signing)
    """Who signs models, and whose signatures servers believe."""
    price_per_hour: float | None = Field(default=None, ge=0)
    """Price of one pod for an hour; budgets by cost need it."""
    watts: float | None = Field(default=None, ge=0)
    """Power of one pod under load, for the energy estimate."""
    carbon_intensity: float | None = Field(default=None, ge=0)
    """Grams of CO2 per kWh of the place."""
    default: bool = False
    """Jobs that name no profile use this one. Of several defaults the oldest counts."""


class TrainingProfile(ApiObject):
    """What an administrator lets jobs run on."""

    resource: ClassVar[Resource] = Resource(
        kind="TrainingProfile",
        plural="trainingprofiles",
        short_name="tprof",
        scope="Cluster",
        columns=(
            Column("IMAGE", "string", ".spec.image"),
            Column("DEFAULT", "string", ".spec.default"),
            Column("PRICE/H", "number", ".spec.pricePerHour"),
            Column("AGE", "date", ".metadata.creationTimestamp"),
        ),
    )

    spec: TrainingProfileSpec = Field(default_factory=TrainingProfileSpec)
    """Image, resources, placement and limits."""
    status: StatusModel = Field(default_factory=StatusModel)
    """What is true now."""
