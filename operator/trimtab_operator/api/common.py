"""Pieces that any kind may use: the envelope of an object, conditions, quantities."""

from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import ConfigDict, Field

from trimtab_trainer.contract.base import Document

Quantity = Annotated[
    str | int,
    Field(
        json_schema_extra={
            "x-kubernetes-int-or-string": True,
            "pattern": r"^([0-9]+(\.[0-9]*)?|\.[0-9]+)([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]+)?$",
        }
    ),
]
"""A Kubernetes quantity: `500m`, `4Gi`, `2`."""
LabelValue = Annotated[str, Field(max_length=63)]
ObjectName = Annotated[str, Field(max_length=253)]


class Column(NamedTuple):
    """A printer column of `kubectl get`."""

    name: str
    type: Literal["string", "integer", "number", "date"]
    json_path: str
    description: str = ""
    priority: int = 0


class Resource(NamedTuple):
    """How a kind is named and shown."""

    kind: str
    plural: str
    short_name: str
    scope: Literal["Namespaced", "Cluster"]
    columns: tuple[Column, ...]
    rules: tuple[tuple[str, str], ...] = ()
    """CEL rules over the whole object and their messages; `self.metadata.name` is visible there."""


class Metadata(Document):
    """The part of ObjectMeta that Trimtab reads."""

    name: str
    namespace: str = ""
    uid: str = ""
    generation: int = 1
    resource_version: str = ""
    creation_timestamp: str = ""
    deletion_timestamp: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    finalizers: list[str] = Field(default_factory=list)


class ApiObject(Document):
    """An object of the API server: `metadata` beside `spec` and `status`."""

    resource: ClassVar[Resource]

    api_version: str = "trimtab.dev/v1alpha1"
    kind: str = ""
    metadata: Metadata

    @classmethod
    def parse(cls, body: dict[str, Any]) -> Self:
        """Read an object of the API server. Fields of a newer CRD are tolerated.

        Raises:
            pydantic.ValidationError: the object does not fit even so.
        """
        return cls.model_validate(body, extra="ignore")


class Condition(Document):
    """One typed fact (metav1.Condition)."""

    type: Annotated[str, Field(max_length=64)]
    """Name of the fact, unique in the list."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    reason: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z]+$")]
    """Why, as one word of the closed list."""
    message: Annotated[str, Field(max_length=1024)] = ""
    """Why, as a sentence that says what to do."""
    last_transition_time: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    """When `status` last changed."""
    observed_generation: int | None = None
    """The generation of the spec that this speaks of."""


Conditions = Annotated[
    list[Condition],
    Field(
        max_length=32,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    ),
]


class StatusModel(Document):
    """What every status has."""

    model_config = ConfigDict(frozen=True)

    observed_generation: int | None = None
    """The generation of the spec that this status speaks of; -1 before the operator has seen the object."""
    conditions: Conditions = Field(default_factory=list)
    """Typed facts; the source of truth."""

    def condition(self, kind: str) -> Condition | None:
        """The condition of that type."""
        return next((condition for condition in self.conditions if condition.type == kind), None)

    def is_true(self, kind: str) -> bool:
        """Whether the condition of that type is there and True."""
        condition = self.condition(kind)
        return condition is not None and condition.status == "True"


IMMUTABLE = "x-trimtab-immutable"
"""JSON-schema key on a model or field: the names of fields that cannot change after creation, or what to say by name."""

BY_FIELD = "x-trimtab-by-field"
"""JSON-schema key on an immutable union: compare field by field, which is cheaper where members have many fields."""


def immutable(*fields: str, **extra: Any) -> ConfigDict:
    """`model_config` of a spec whose named fields cannot change."""
    return ConfigDict(json_schema_extra={IMMUTABLE: list(fields), **extra})
