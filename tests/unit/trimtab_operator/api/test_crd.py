from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from trimtab_operator.api.common import ApiObject
from trimtab_operator.api.crd import custom_resource_definition, structural
from trimtab_operator.api.rules import KNOWN, NEVER, RULES, UNCHANGED, at_creation, merged
from trimtab_operator.api.v1alpha1 import KINDS, FineTuneJob
from trimtab_trainer.contract.base import Document, Empty, unavailable

Schema = dict[str, Any]
IDS = [kind.resource.kind for kind in KINDS]


@cache
def schema_of(kind: type[ApiObject]) -> Schema:
    schema: Schema = custom_resource_definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def nodes(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    for key, mark in (("items", "[]"), ("additionalProperties", "{}")):
        if isinstance(schema.get(key), dict):
            yield from nodes(schema[key], f"{path}{mark}")


def field(schema: Schema, path: str) -> Schema:
    for name in path.split("."):
        schema = schema["properties"][name]
    return schema


@pytest.mark.parametrize("kind", KINDS, ids=IDS)
def test_every_field_has_a_description(kind: type[ApiObject]) -> None:
    fields = [(path, node) for path, node in nodes(schema_of(kind)) if not path.startswith(".metadata")]
    assert [path for path, node in fields if "description" not in node and not path.endswith(("[]", "{}"))] == []


@pytest.mark.parametrize("kind", KINDS, ids=IDS)
def test_every_string_of_a_spec_is_bounded_where_rules_read_it(kind: type[ApiObject]) -> None:
    """The API server refuses a CRD whose rules could cost too much."""
    ruled = [
        node for path, node in nodes(schema_of(kind)) if path.startswith(".spec") and "x-kubernetes-validations" in node
    ]
    lists = [child for node in ruled for child in node.get("properties", {}).values() if child.get("type") == "array"]
    assert all("maxItems" in node for node in lists)


@pytest.mark.parametrize("kind", KINDS, ids=IDS)
def test_the_schema_is_structural(kind: type[ApiObject]) -> None:
    for path, node in nodes(schema_of(kind)):
        assert not node.keys() & {"anyOf", "oneOf", "allOf", "$ref", "title", "const", "nullable"}, path
        typed = "type" in node or "x-kubernetes-int-or-string" in node or "x-kubernetes-preserve-unknown-fields" in node
        assert typed, path


@pytest.mark.parametrize("kind", KINDS, ids=IDS)
def test_no_reference_has_a_namespace(kind: type[ApiObject]) -> None:
    assert [
        path for path, _ in nodes(schema_of(kind)) if path.startswith(".spec") and path.endswith(".namespace")
    ] == []


@pytest.mark.parametrize("kind", KINDS, ids=IDS)
def test_a_status_has_no_defaults_but_that_nobody_has_seen_the_object(kind: type[ApiObject]) -> None:
    found = {
        path: node["default"]
        for path, node in nodes(schema_of(kind))
        if path.startswith(".status") and "default" in node
    }
    assert found == {".status": {"observedGeneration": -1}}


@pytest.mark.parametrize(
    ("path", "rule", "message"),
    [
        pytest.param(
            "spec.method",
            "dyn(self).size() == 1",
            "exactly one of lora, full, headOnly, qlora, adapter, prefixTuning, reft, partial must be set",
            id="union",
        ),
        pytest.param("spec.task", "self == oldSelf", "task is immutable", id="immutable union"),
        pytest.param("spec.managedBy", "self == oldSelf", "managedBy is immutable", id="immutable with a default"),
        pytest.param("spec.model.uri", "self == oldSelf", "model is immutable", id="immutable with its object"),
        pytest.param("spec.data.train", "self == oldSelf", "data is immutable", id="immutable list"),
        pytest.param("spec.profile", "self == oldSelf", "profile is immutable", id="immutable and optional: its value"),
        pytest.param(
            "spec.training.divergence",
            "dyn(self).size() == dyn(oldSelf).size() && (dyn(self).size() in [3, 4] || dyn(self).size() == 4 && "
            "(has(self.spikeFactor) && has(oldSelf.spikeFactor))) || has(self.spikeFactor) == has(oldSelf.spikeFactor)",
            "training is immutable",
            id="immutable and optional: whether it is there",
        ),
    ],
)
def test_rules(path: str, rule: str, message: str) -> None:
    rules = field(schema_of(FineTuneJob), path)["x-kubernetes-validations"]
    assert (rule, message) in [(found["rule"], found.get("message")) for found in rules]


def once(name: str, message: str) -> Schema:
    return at_creation({"rule": f"!has(self.method.{name}) || self.ready", "message": message})


def test_rules_about_what_cannot_change_are_one_rule_that_looks_at_a_field_once() -> None:
    always: Schema = {"rule": "size(self.name) > 2", "message": "too short"}
    properties = {"method": {"type": "object", "default": {}}, "ready": {"type": "boolean", "default": False}}
    schema = {
        "type": "object",
        "properties": properties,
        RULES: [once("a", "a isn't ready"), always, once("b", "nor b")],
    }
    assert merged(schema)[RULES] == [
        always,
        {
            "rule": "oldSelf.hasValue() || ([self.method].all(method, (!has(method.a) || self.ready) && (!has(method.b) || self.ready)))",
            "messageExpression": "!(!has(self.method.a) || self.ready) ? 'a isn\\'t ready' : 'nor b'",
            "optionalOldSelf": True,
        },
    ]


def test_what_may_be_absent_is_not_looked_at_beforehand() -> None:
    properties = {"method": {"type": "object"}, "ready": {"type": "boolean"}}
    schema = {"type": "object", "properties": properties, RULES: [once("a", "no a"), once("b", "no b")]}
    assert merged(schema)[RULES][0]["rule"].startswith("oldSelf.hasValue() || ((!has(self.method.a)")


@pytest.mark.parametrize("kind", KINDS, ids=IDS)
def test_an_optional_old_value_is_asked_for_where_it_is_declared(kind: type[ApiObject]) -> None:
    rules = [rule for _, node in nodes(schema_of(kind)) for rule in node.get("x-kubernetes-validations", []) if rule]
    assert all(rule.get("optionalOldSelf", False) == ("oldSelf.hasValue()" in rule["rule"]) for rule in rules)


def test_only_what_cannot_change_is_checked_once() -> None:
    """What may change is checked at every write."""
    schema = schema_of(FineTuneJob)
    assert all(
        KNOWN not in rule for rule in texts(field(schema, "spec.runPolicy")) + texts(field(schema, "spec.budget"))
    )
    assert all(KNOWN in rule or "oldSelf" in rule for rule in texts(field(schema, "spec.training")))


def frozen_fields(node: Schema, path: str) -> Iterator[tuple[str, Schema, Schema]]:
    """Fields and objects of an immutable object, down to what is compared as a whole."""
    for name, child in node["properties"].items():
        yield f"{path}.{name}", child, node
        if "properties" in child and UNCHANGED not in texts(child):
            yield from frozen_fields(child, f"{path}.{name}")


def texts(node: Schema) -> list[str]:
    return [rule["rule"] for rule in node.get("x-kubernetes-validations", [])]


@pytest.mark.parametrize("name", ["model", "method", "data", "training", "distribution", "evaluation", "output"])
def test_no_part_of_an_immutable_object_can_change(name: str) -> None:
    for path, node, parent in frozen_fields(field(schema_of(FineTuneJob), f"spec.{name}"), name):
        field_name = path.rpartition(".")[2]
        is_refused = any(rule in (NEVER, "size(self) == 0") or rule.startswith("self == ") for rule in texts(node))
        assert "properties" in node or is_refused, f"{path}: its value can change"
        always_there = field_name in parent.get("required", []) or "default" in node or NEVER in texts(node)
        compared = any(f"has(self.{field_name}) == has(oldSelf.{field_name})" in rule for rule in texts(parent))
        assert always_there or compared, f"{path}: it can come and go"


def test_what_the_operator_writes_whole_has_one_owner() -> None:
    assert all(field(schema_of(kind), "status")["x-kubernetes-map-type"] == "atomic" for kind in KINDS)


def test_descriptions_name_defaults() -> None:
    assert field(schema_of(FineTuneJob), "spec.method.lora.r")["description"] == "LoRA rank. Default: 16."


class Announced(Document):
    """A field whose behaviour a later release has."""

    later: Empty | None = unavailable()
    """Not yet."""


def test_what_is_not_there_yet_is_refused_and_may_hold_anything() -> None:
    """So that the answer is 'not in this release' and not 'unknown field'."""
    schema = Announced.model_json_schema()
    later = structural(schema, schema["$defs"])["properties"]["later"]
    assert later["x-kubernetes-preserve-unknown-fields"] is True
    assert {"rule": NEVER, "message": "later is not available in this release"} in later["x-kubernetes-validations"]


def test_a_map_of_untyped_values_is_visible_to_rules() -> None:
    assert structural({"type": "object", "additionalProperties": True}, {}) == {
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": True,
    }


def test_a_union_of_types_is_refused() -> None:
    with pytest.raises(ValueError, match="a CRD knows no anyOf"):
        structural({"anyOf": [{"type": "string"}, {"type": "boolean"}]}, {})


@pytest.mark.parametrize("kind", KINDS, ids=IDS)
def test_names(kind: type[ApiObject]) -> None:
    crd = custom_resource_definition(kind)
    names = crd["spec"]["names"]
    assert crd["metadata"]["name"] == f"{names['plural']}.trimtab.dev"
    assert names["categories"] == ["trimtab"]
    assert "mv" not in names["shortNames"]
    assert crd["spec"]["versions"][0]["subresources"] == {"status": {}}
