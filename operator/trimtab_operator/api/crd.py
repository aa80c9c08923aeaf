"""Models to CustomResourceDefinitions: pydantic's JSON schema made structural, with CEL where the schema cannot say it."""

import json
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from trimtab_operator.api.common import ApiObject, Column
from trimtab_operator.api.rules import (
    RULES,
    all_at_creation,
    at_creation,
    frozen,
    is_frozen_by_field,
    merged,
    rules_of_field,
    rules_of_object,
)
from trimtab_operator.names import CATEGORY, GROUP, VERSION
from trimtab_trainer.contract.base import UNAVAILABLE, Document

Schema = dict[str, Any]
_KEPT = (
    "description", "type", "enum", "pattern", "format", "default", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems",
    "maxProperties", "x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields", "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
)  # fmt: skip
MAX_OBJECT_NAME = 253
NOT_OBSERVED = -1
"""`status.observedGeneration` of an object that the operator has not seen."""
DEFAULT_WORDS = " Default: "
_PRESERVE = "x-kubernetes-preserve-unknown-fields"
_ATOMIC = "x-kubernetes-map-type"


class _WithFactories(GenerateJsonSchema):
    """Defaults made by factories are defaults too; those of models are written as far as they were set."""

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        if "default_factory" in schema and not schema.get("default_factory_takes_data"):
            factory = schema["default_factory"]
            schema = {**schema, "default": factory()}  # type: ignore[call-arg]
        return super().default_schema(schema)

    def encode_default(self, dft: Any) -> Any:
        if isinstance(dft, Document):
            return dft.model_dump(mode="json", by_alias=True, exclude_unset=True)
        return super().encode_default(dft)


def custom_resource_definition(model: type[ApiObject]) -> Schema:
    """The CRD of one kind."""
    resource = model.resource
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{resource.plural}.{GROUP}", "labels": {"app.kubernetes.io/name": "trimtab"}},
        "spec": {
            "group": GROUP,
            "scope": resource.scope,
            "names": {
                "kind": resource.kind,
                "listKind": f"{resource.kind}List",
                "plural": resource.plural,
                "singular": resource.kind.lower(),
                "shortNames": [resource.short_name],
                "categories": [CATEGORY],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [_column(column) for column in resource.columns],
                    "schema": {"openAPIV3Schema": merged(object_schema(model))},
                }
            ],
        },
    }


def object_schema(model: type[ApiObject]) -> Schema:
    """The structural schema of a whole object; `metadata` is the API server's own business."""
    raw = model.model_json_schema(by_alias=True, schema_generator=_WithFactories)
    definitions = raw.get("$defs", {})
    properties = raw["properties"]
    schema: Schema = {
        "description": raw["description"],
        "type": "object",
        "properties": {
            "apiVersion": {"type": "string", "description": f"{GROUP}/{VERSION}."},
            "kind": {"type": "string", "description": f"{model.resource.kind}."},
            # Names are never longer; said here, rules about them have a bounded cost.
            "metadata": {"type": "object", "properties": {"name": {"type": "string", "maxLength": MAX_OBJECT_NAME}}},
            "spec": _say_defaults(structural(properties["spec"], definitions)),
            "status": without_defaults(structural(properties["status"], definitions)),
        },
    }
    schema["properties"]["spec"].pop("default", None)
    # Written whole by the operator alone: a record of who owns which part of it would be longer than the status.
    schema["properties"]["status"][_ATOMIC] = "atomic"
    # Without it, kstatus takes an object that nobody has looked at yet for one that is as it should be.
    schema["properties"]["status"]["default"] = {"observedGeneration": NOT_OBSERVED}
    if "spec" in raw.get("required", []):
        schema["required"] = ["spec"]
    if model.resource.rules:
        # About the name, alone or beside a spec that cannot change.
        schema[RULES] = [at_creation({"rule": rule, "message": text}) for rule, text in model.resource.rules]
    return schema


def structural(node: Schema, definitions: dict[str, Schema], *, inherited: str = "") -> Schema:
    """One node of pydantic's schema as a structural schema: references inlined, null dropped, unions as CEL.

    `inherited` is what is said about a change where all of the node is immutable.
    """
    node = _resolve(node, definitions)
    schema: Schema = {key: node[key] for key in _KEPT if node.get(key) is not None}
    if schema.get("x-kubernetes-int-or-string"):
        # The API server fixes the type of an int-or-string itself; a pattern speaks of the string.
        return {key: value for key, value in schema.items() if key not in ("type", "maxLength", "minLength")}
    if UNAVAILABLE in node and node.get("type") == "object":
        # Whatever is inside: the reader shall be told that the field is not there yet, not that its content is unknown.
        schema[_PRESERVE] = True
    if _PRESERVE in schema:
        return {"type": "object", **{key: value for key, value in schema.items() if key != "type"}}
    for bound, limit in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if bound in node:
            schema |= {limit: node[bound], bound: True}
    if node.get("type") == "object":
        schema |= _object(node, definitions, inherited=inherited)
    elif node.get("type") == "array":
        schema["items"] = structural(node.get("items", {}), definitions)
    elif "type" not in node:
        schema[_PRESERVE] = True
    return schema


def _say_defaults(schema: Schema) -> Schema:
    """`kubectl explain` shows no defaults, so the descriptions do."""
    default = schema.get("default")
    if default not in (None, "", [], {}) and not isinstance(default, dict):
        number = int(default) if isinstance(default, float) and default.is_integer() else default
        schema["description"] = f"{schema.get('description', '')}{DEFAULT_WORDS}{json.dumps(number)}."
    for child in schema.get("properties", {}).values():
        _say_defaults(child)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            _say_defaults(schema[key])
    return schema


def without_defaults(schema: Schema) -> Schema:
    """A status is what the operator writes, nothing that the API server invents."""
    if isinstance(schema, dict):
        return {
            key: without_defaults(value)
            for key, value in schema.items()
            if key != "default" or (isinstance(value, dict) and "type" in value)
        }
    return schema


def _object(node: Schema, definitions: dict[str, Schema], *, inherited: str) -> Schema:
    if "properties" not in node:
        extra = node.get("additionalProperties", True)
        if extra in (True, {}):
            # Not a map of untyped values: rules cannot see a field of such a type, nor whether it is set.
            return {_PRESERVE: True}
        return {"additionalProperties": structural(extra, definitions)} if extra else {}
    properties = {name: _field(name, node, definitions, inherited=inherited) for name in node["properties"]}
    result: Schema = {"properties": properties}
    if node.get("required"):
        result["required"] = node["required"]
    if rules := rules_of_object(node, properties, inherited=inherited):
        result[RULES] = rules
    return result


def _field(name: str, node: Schema, definitions: dict[str, Schema], *, inherited: str) -> Schema:
    field = _resolve(node["properties"][name], definitions)
    text = frozen(name, node, inherited=inherited)
    schema = structural(field, definitions, inherited=text if is_frozen_by_field(field) else "")
    if rules := rules_of_field(name, field, frozen=text):
        schema[RULES] = [*rules, *schema.get(RULES, [])]
    if text and not inherited and field.get("type") == "object":
        # What nobody can change needs no record of who owns which part of it.
        schema[_ATOMIC] = "atomic"
    return all_at_creation(schema) if text else schema


def _resolve(node: Schema, definitions: dict[str, Schema]) -> Schema:
    """Inline `$ref`, drop the null of an optional; what stands beside the reference wins."""
    if "anyOf" in node:
        if node.get("x-kubernetes-int-or-string"):
            return {key: value for key, value in node.items() if key != "anyOf"}
        choices = [choice for choice in node["anyOf"] if choice.get("type") != "null"]
        if len(choices) != 1:
            if any(choice.get("x-kubernetes-int-or-string") for choice in choices) or _is_int_or_string(choices):
                return {
                    **{key: value for key, value in node.items() if key != "anyOf"},
                    "x-kubernetes-int-or-string": True,
                }
            raise ValueError(f"a CRD knows no anyOf: {choices}")
        outer = {key: value for key, value in node.items() if key != "anyOf"}
        return _resolve({**_resolve(choices[0], definitions), **outer}, definitions)
    if "$ref" in node:
        target = _resolve(definitions[node["$ref"].removeprefix("#/$defs/")], definitions)
        return {**target, **{key: value for key, value in node.items() if key != "$ref"}}
    return node


def _is_int_or_string(choices: list[Schema]) -> bool:
    return {choice.get("type") for choice in choices} == {"string", "integer"}


def _column(column: Column) -> Schema:
    result: Schema = {"name": column.name, "type": column.type, "jsonPath": column.json_path}
    if column.description:
        result["description"] = column.description
    if column.priority:
        result["priority"] = column.priority
    return result
