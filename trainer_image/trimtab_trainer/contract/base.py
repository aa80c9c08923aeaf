"""The base of every document: camelCase on the wire, unknown fields refused, unions with exactly one member."""

from functools import cache
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

UNAVAILABLE = "x-trimtab-unavailable"
"""JSON-schema key: the field is in the API, its behaviour is not in this release. The CRD refuses it with this text."""

ONLY = "x-trimtab-only"
"""JSON-schema key: of the field's values, this release accepts only this one."""
UNION = "x-trimtab-union"
"""JSON-schema key: exactly one member of this object must be set."""


class Document(BaseModel):
    """A value that travels as JSON.

    Objects of the API server, and what pods and the operator tell each other while both run, are parsed with `extra="ignore"`
    instead: the other side may be of a later release.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        protected_namespaces=(),
    )

    def to_json(self) -> dict[str, Any]:
        """The wire form: camelCase keys, absent instead of null."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def to_sparse_json(self) -> dict[str, Any]:
        """The wire form without what is off by default, for readers that may be of an earlier release.

        They refuse fields that they do not know, and miss nothing where a field that was added since is off. What is on
        by default is said, so that another default changes nothing of an old job.
        """
        wire = self.to_json()
        _leave_out_what_is_off(self, wire)
        return wire


def _leave_out_what_is_off(document: Document, wire: dict[str, Any]) -> None:
    defaults = _defaults(type(document))
    for name, field in type(document).model_fields.items():
        key = field.serialization_alias or name
        if key not in wire:
            continue
        value = getattr(document, name)
        parts = zip(value, wire[key], strict=True) if isinstance(value, list) else [(value, wire[key])]
        for part, its_wire in parts:
            if isinstance(part, Document):
                _leave_out_what_is_off(part, its_wire)
        if not wire[key] and name in defaults and value == defaults[name]:
            del wire[key]


@cache
def _defaults(kind: type[Document]) -> dict[str, Any]:
    """What each optional field is by default: pydantic takes a tenth of a millisecond to ask a factory."""
    fields = kind.model_fields.items()
    return {name: field.get_default(call_default_factory=True) for name, field in fields if not field.is_required()}


def rules(*validations: tuple[str, str]) -> ConfigDict:
    """`model_config` with CEL rules and their messages, which the CRD states beside the fields they are about."""
    return ConfigDict(
        json_schema_extra={"x-kubernetes-validations": [{"rule": rule, "message": text} for rule, text in validations]}
    )


class OneOf(Document):
    """A union: exactly one member is set. The CRD says the same in CEL."""

    model_config = ConfigDict(json_schema_extra={UNION: True})

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        members = [name for name, value in self.__dict__.items() if value is not None]
        if len(members) != 1:
            choices = ", ".join(to_camel(name) for name in type(self).model_fields)
            given = ", ".join(map(to_camel, members)) or "none"
            raise ValueError(f"exactly one of {choices} must be set; got {given}")
        return self

    @property
    def kind(self) -> str:
        """The camelCase name of the member that is set."""
        return next(to_camel(name) for name in type(self).model_fields if getattr(self, name) is not None)


class Empty(Document):
    """A union member without parameters: `{}`."""


def unavailable(why: str = "is not available in this release", **constraints: Any) -> Any:
    """An optional field that the schema names and this release refuses, with the reason."""
    return Field(default=None, json_schema_extra={UNAVAILABLE: why}, **constraints)


def only(value: Any, **constraints: Any) -> Any:
    """A field of which this release accepts only `value`, its default."""
    return Field(default=value, json_schema_extra={ONLY: value}, **constraints)
