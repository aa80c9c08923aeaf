"""A ModelRollout: what is observed and measured of it, and what was decided about its versions."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from trimtab_operator.api.v1alpha1 import ModelRollout, ModelVersion, StorageProfile, TrainingProfile
from trimtab_operator.api.v1alpha1.analysis import Metric, MetricResult
from trimtab_operator.api.v1alpha1.model_rollout import CanaryStatus, HandledAction, Passage, Routing
from trimtab_operator.api.v1alpha1.model_version import BaseModel
from trimtab_operator.state.objects import EventNote, Manifest, Problem, RejectedWrite
from trimtab_trainer.contract.serving import ServerReport


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
class ObservedRoute:
    """The HTTPRoute of a rollout, read live in this pass."""

    body: Manifest | None = None
    """None: there is none yet, or see the problem."""
    problem: Problem | None = None
    """Why it cannot be read."""


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
    route: ObservedRoute | None = None
    """Only where whole models are served by vLLM."""
    deployments: tuple[Manifest, ...] = ()
    """All of this ModelRollout: one for each version where whole models are served by vLLM."""
    services: tuple[Manifest, ...] = ()
    """Likewise."""

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
    notes: tuple[EventNote, ...] = ()
    """Events of this pass's decisions."""
    look_again: timedelta | None = None
    """When something is due, even if nothing happens."""
