"""ModelRollout: which version of a model serves."""

from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from trimtab_operator.api.common import ApiObject, Column, Resource, StatusModel, immutable
from trimtab_operator.api.v1alpha1.analysis import MetricResult, Step
from trimtab_operator.api.v1alpha1.training_profile import ResourceRequirements
from trimtab_trainer.contract.base import UNION, Document, OneOf, rules


class Servers(Document):
    """What all servers have in common that hold several versions of one base model."""

    profile: str | None = Field(default=None, min_length=1, max_length=253)
    """TrainingProfile whose server image, placement and signing keys are used. Absent: the one that trained the version."""
    replicas: int = Field(default=1, ge=1, le=100)
    """Server pods."""
    sticky: bool = True
    """Requests with the same `user` (OpenAI's field) are answered by the same version as long as the weights stay, and a growing weight takes
    nobody back to the old one."""


class BuiltinServing(Servers):
    """Trimtab's own OpenAI-compatible server: one base model, many adapters. Its resources are the profile's `serverResources`."""


OWN_ARGUMENTS = (
    "api-key", "config", "download-dir", "enable-lora", "host", "load-format", "lora-modules", "max-lora-rank", "model", "port",
    "served-model-name", "trust-remote-code", "uds",
)  # fmt: skip
"""Arguments of `vllm serve` that Trimtab sets, or never sets."""
_OWN = f"^--?({'|'.join(OWN_ARGUMENTS)}|trust.*)(=.*)?$"


def _router_resources() -> ResourceRequirements:
    resources = {"requests": {"cpu": "250m", "memory": "512Mi"}, "limits": {"memory": "2Gi"}}
    return ResourceRequirements.model_validate(resources)


class ParentRef(Document):
    """A Gateway of the rollout's namespace that takes the route."""

    name: str = Field(min_length=1, max_length=253)
    """Its name."""
    section_name: str | None = Field(default=None, min_length=1, max_length=253)
    """One of its listeners. Absent: all of them."""


Hostname = Annotated[
    str,
    Field(
        max_length=253,
        pattern=r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
        min_length=1,
    ),
]


class GatewayRouting(Document):
    """The HTTPRoute of Gateway API that divides the requests between versions, each of which has servers of its own. It has the rollout's name."""

    parent_refs: list[ParentRef] = Field(min_length=1, max_length=8)
    """Gateways that take it."""
    hostnames: list[Hostname] = Field(default_factory=list, max_length=16)
    """Host names whose requests are the model's. Empty: all that the Gateways' listeners take."""


class VllmServing(Servers):
    """vLLM: LoRA adapters of one base model that come and go while it runs, or, with `gateway`, whole models, each on servers of its own.

    A router of Trimtab's beside it, in the same pod, fetches and verifies what vLLM loads, routes adapters by weight and counts for the
    analyses. vLLM itself listens inside the pod only.
    """

    model_config = rules(
        (
            f"!has(self.arguments) || !self.arguments.exists(argument, argument.replace('_', '-').matches('{_OWN}'))",
            f"arguments must not have {', '.join(f'--{name}' for name in OWN_ARGUMENTS)}: Trimtab sets them itself, or never",
        ),
        (
            "!has(self.gateway) || self.maxLoraRank == 64",
            "maxLoraRank is for adapters: leave it out beside gateway",
        ),
    )

    image: str = Field(min_length=1, max_length=512)
    """Image of vLLM, with `vllm`, `python3` and `/bin/sh` in it, for example vllm/vllm-openai with a tag. It runs without root."""
    accelerators: int = Field(default=1, ge=0, le=64)
    """Accelerators of one vLLM, of the profile's kind; with more than one the model is split over them (tensor parallel)."""
    resources: ResourceRequirements = Field(default_factory=ResourceRequirements)
    """Resources of the vLLM container, beside accelerators."""
    router_resources: ResourceRequirements = Field(default_factory=_router_resources)
    """Resources of the router's container."""
    max_lora_rank: Literal[8, 16, 32, 64, 128, 256, 320, 512] = 64
    """The largest LoRA rank of an adapter. vLLM sets memory aside for it, and refuses larger adapters: the rollout says so."""
    arguments: list[Annotated[str, Field(min_length=1, max_length=512)]] = Field(default_factory=list, max_length=64)
    """More arguments of `vllm serve`, for example --max-model-len=8192."""
    gateway: GatewayRouting | None = None
    """For whole models, and only for them: a Deployment and a Service for each version that takes part, and a route with their weights. `sticky`
    plays no part then."""


class KServeServing(Document):
    """An InferenceService of yours, in the same namespace.

    Trimtab writes `spec.predictor.model.storageUri`, in Knative mode `spec.predictor.canaryTrafficPercent`, and two annotations; the rest
    stays yours: runtime, resources, service account.
    """

    inference_service: str = Field(max_length=63, pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$")
    """Its name. Its model must not come from anywhere else: leave `storageUri` and `canaryTrafficPercent` out of your manifest."""


class Serving(OneOf):
    """What serves the model. Exactly one member."""

    model_config = ConfigDict(
        json_schema_extra={
            UNION: True,
            "x-kubernetes-validations": [
                {
                    "rule": "has(self.kserve) == has(oldSelf.kserve)",
                    "message": "serving cannot change to or from kserve: what served would be left behind. Make another ModelRollout",
                }
            ],
        }
    )

    builtin: BuiltinServing | None = None
    """Trimtab's own server."""
    vllm: VllmServing | None = None
    """vLLM, for adapters of a causal language model, or for whole ones."""
    kserve: KServeServing | None = None
    """An InferenceService of KServe, for whole models."""

    @property
    def servers(self) -> Servers | None:
        """What the member that is set has in common with others; None where it runs no servers of its own."""
        return self.builtin or self.vllm

    @property
    def gateway(self) -> GatewayRouting | None:
        """Where every version has servers of its own: what divides the requests between them."""
        return self.vllm.gateway if self.vllm else None


class Canary(Document):
    """Steps of a canary."""

    steps: list[Step] = Field(default_factory=list, max_length=32)
    """One after the other: each begins when the one before is done. After the last one all traffic moves. Empty: it moves as soon as every server has loaded
    the new version. Steps need a version of the same base model: one server weighs its adapters."""


class Strategy(Document):
    """How traffic moves to a new version."""

    canary: Canary = Field(default_factory=Canary)
    """In steps."""


class RollbackWindow(Document):
    """Which earlier versions may return without steps."""

    revisions: int = Field(default=0, ge=0, le=10)
    """A version that was among the last so many stable ones returns at once."""


class ModelRolloutSpec(Document):
    """Which version serves, and how traffic moves to the next."""

    model_config = immutable("modelName")

    model_name: str = Field(max_length=50, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    """Model whose versions are served, and the name that requests use."""
    version: int = Field(ge=1, le=999_999_999)
    """Version that should serve."""
    serving: Serving = Field(default_factory=lambda: Serving(builtin=BuiltinServing()))
    """What serves it. Exactly one member."""
    strategy: Strategy = Field(default_factory=Strategy)
    """How traffic moves to a new version."""
    rollback_window: RollbackWindow | None = None
    """Which earlier versions may return without steps."""
    abort: bool = False
    """Put all traffic back on the stable version, and leave it there until this is false again; then the steps begin anew."""
    paused: bool = False
    """Stay at the step that has been reached. Weights stay as they are."""


class VersionWeight(Document):
    """Share of the traffic."""

    version: int
    """Version."""
    weight: int
    """Percent."""


class Routing(Document):
    """What the servers are told."""

    revision: int = 0
    """Grows with every change."""
    versions: list[VersionWeight] = Field(default_factory=list, max_length=4)
    """Versions in memory, and their shares."""


class Rollback(Document):
    """Why all traffic is back on the stable version."""

    at: str
    """When."""
    reason: str = Field(max_length=64)
    """As one word: AnalysisFailed or Aborted."""
    message: str = Field(default="", max_length=1024)
    """As a sentence, with the numbers."""
    by_spec: bool = False
    """`spec.abort` did it, and undoes it."""


class CanaryStatus(Document):
    """A version on its way in."""

    version: int
    """Which."""
    started_at: str
    """When `spec.version` was seen to name it."""
    steps_digest: str = Field(default="", max_length=64)
    """Of the steps that it follows: other steps begin anew."""
    step_started_at: str = ""
    """When the current step began; empty while the servers load the version."""
    loaded: bool = False
    """Every server has it in memory."""
    held: bool = False
    """The action `pause` stopped it."""
    waits_for: str = Field(default="", max_length=64)
    """AnalysisInconclusive or AnalysisError: a person decides."""
    rollback: Rollback | None = None
    """Why it gets no traffic any more."""


class Passage(Document):
    """A version that came, or did not."""

    version: int
    """Which."""
    outcome: str
    """Promoted, RolledBack, Aborted or Superseded."""
    started_at: str
    """When it began."""
    ended_at: str
    """When it was decided."""
    message: str = Field(default="", max_length=512)
    """Why."""


class HandledAction(Document):
    """The newest value of the annotation `rollouts.trimtab.dev/action`, and what became of it. The same value is never carried out twice."""

    value: str = Field(max_length=256)
    """As it was written."""
    at: str
    """When it was seen."""
    result: str = Field(max_length=256)
    """What was done, or why nothing was."""


MAX_HISTORY = 12


class ModelRolloutStatus(StatusModel):
    """What is true now."""

    state: str = ""
    """One word for humans, derived from the conditions."""
    stable_version: int | None = None
    """Version that serves and has proved itself."""
    canary_version: int | None = None
    """Version on its way in."""
    current_step_index: int | None = None
    """Step of the canary, from 0; as many as there are steps: the last of the traffic is moving."""
    canary: CanaryStatus | None = None
    """How the canary stands."""
    weights: list[VersionWeight] = Field(default_factory=list, max_length=16)
    """Where requests go, as the servers confirmed."""
    routing: Routing = Field(default_factory=Routing)
    """What the servers are told."""
    analysis: list[MetricResult] = Field(default_factory=list, max_length=64)
    """Results of the canary's analyses."""
    history: list[Passage] = Field(default_factory=list, max_length=MAX_HISTORY)
    """Versions that came or did not, newest first."""
    action: HandledAction | None = None
    """The newest action by annotation."""
    url: str = ""
    """Address inside the cluster. Where whole models are served by vLLM: the route's first host name."""


_GATEWAY = "(has(self.spec.serving.vllm) && has(self.spec.serving.vllm.gateway))"


class ModelRollout(ApiObject):
    """Which version of a model serves."""

    resource: ClassVar[Resource] = Resource(
        kind="ModelRollout",
        plural="modelrollouts",
        short_name="mro",
        scope="Namespaced",
        columns=(
            Column("MODEL", "string", ".spec.modelName"),
            Column("DESIRED", "integer", ".spec.version"),
            Column("STABLE", "integer", ".status.stableVersion"),
            Column("CANARY", "integer", ".status.canaryVersion"),
            Column("STEP", "integer", ".status.currentStepIndex", priority=1),
            Column("STATE", "string", ".status.state"),
            Column("READY", "string", ".status.conditions[?(@.type=='Ready')].status"),
            Column("AGE", "date", ".metadata.creationTimestamp"),
            Column("URL", "string", ".status.url", priority=1),
        ),
        rules=(
            (
                "size(self.metadata.name) <= 52",
                "metadata.name must be at most 52 characters: it names a Service and its pods",
            ),
            (
                "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
                "metadata.name must begin with a letter and have only letters, digits and '-': it names a Service",
            ),
            (
                f"{_GATEWAY} == {_GATEWAY.replace('self', 'oldSelf')} || ({_GATEWAY} && (!has(oldSelf.status) || !has(oldSelf.status.stableVersion)))",
                "spec.serving.vllm.gateway cannot come or go while a version serves: what serves would be left behind. Make another ModelRollout",
            ),
        ),
    )

    spec: ModelRolloutSpec
    """Which version serves, and how traffic moves to the next."""
    status: ModelRolloutStatus = Field(default_factory=ModelRolloutStatus)
    """What is true now."""
