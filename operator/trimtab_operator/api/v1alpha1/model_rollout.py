"""ModelRollout: which version of a model serves."""

from typing import Any, ClassVar

from pydantic import Field

from trimtab_operator.api.common import ApiObject, Column, Resource, StatusModel, immutable
from trimtab_trainer.contract.base import ONLY, Document, Empty, OneOf, only, unavailable


class BuiltinServing(Document):
    """Trimtab's own OpenAI-compatible server: one base model, many adapters."""

    profile: str | None = Field(default=None, min_length=1, max_length=253)
    """TrainingProfile whose server image and server resources are used. Absent: the one that trained the version."""
    replicas: int = Field(default=1, ge=1, le=100)
    """Server pods."""


class Serving(OneOf):
    """What serves the model. Exactly one member."""

    builtin: BuiltinServing | None = None
    """Trimtab's own server."""
    vllm: Empty | None = unavailable()
    """vLLM."""
    kserve: Empty | None = unavailable()
    """A KServe InferenceService."""


class Canary(Document):
    """Steps of a canary."""

    steps: list[dict[str, Any]] = Field(default_factory=list, max_length=32, json_schema_extra={ONLY: []})
    """`setWeight`, `pause` and `analysis` steps. Empty: all traffic moves at once when the new version is ready."""


class Strategy(Document):
    """How traffic moves to a new version."""

    canary: Canary = Field(default_factory=Canary)
    """In steps."""


class RollbackWindow(Document):
    """Which earlier versions may return without steps."""

    revisions: int = Field(default=0, ge=0, le=100)
    """How many."""


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
    rollback_window: RollbackWindow | None = unavailable()
    """Which earlier versions may return without steps."""
    abort: bool = only(value=False)
    """Put all traffic back on the stable version."""


class VersionWeight(Document):
    """Share of the traffic."""

    version: int
    """Version."""
    weight: int
    """Percent."""


class ModelRolloutStatus(StatusModel):
    """What is true now."""

    state: str = ""
    """One word for humans, derived from the conditions."""
    stable_version: int | None = None
    """Version that serves and has proved itself."""
    canary_version: int | None = None
    """Version on its way in."""
    current_step_index: int | None = None
    """Step of the canary."""
    weights: list[VersionWeight] = Field(default_factory=list, max_length=16)
    """Where requests go."""
    analysis: list[dict[str, Any]] = Field(default_factory=list, max_length=64)
    """Results of analyses."""
    url: str = ""
    """Address inside the cluster."""


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
        ),
    )

    spec: ModelRolloutSpec
    """Which version serves, and how traffic moves to the next."""
    status: ModelRolloutStatus = Field(default_factory=ModelRolloutStatus)
    """What is true now."""
