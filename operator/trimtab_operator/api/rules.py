"""CEL rules of a schema, placed where they are cheap.

For every `self.field` the API server copies the schemas of all fields of `self`, and it evaluates every rule at every write, that of
a status too. So a rule stands at the field that it speaks of, where `self` is the value; at the object stands only what compares fields
or speaks of an absent one. And what was found right about a part that cannot change is not asked again. Else rules cost a
third of what a status write allocates (docs/performance.md).
"""

from collections.abc import Mapping
from typing import Any

from trimtab_operator.api.common import IMMUTABLE
from trimtab_trainer.contract.base import ONLY, UNAVAILABLE, UNION

Schema = dict[str, Any]
RULES = "x-kubernetes-validations"
NEVER = "false"
"""The rule of a field that may not be set."""
UNCHANGED = "self == oldSelf"
KNOWN = "oldSelf.hasValue()"


def at_creation(rule: Schema) -> Schema:
    """A rule about what cannot change: true once, it stays true, and no later write need pay for it.

    A comparison with the old value, and what looks at nothing but the value itself, are left as they are.
    """
    text = rule["rule"]
    if "oldSelf" in text or "self." not in text:
        return rule
    return {**rule, "rule": f"{KNOWN} || ({text})", "optionalOldSelf": True}


def all_at_creation(schema: Schema) -> Schema:
    """Likewise for every rule of a schema; those of items and of a map's values have no old value to ask about."""
    result = dict(schema)
    if RULES in schema:
        result[RULES] = [at_creation(rule) for rule in schema[RULES]]
    if "properties" in schema:
        result["properties"] = {name: all_at_creation(field) for name, field in schema["properties"].items()}
    return result


def frozen(name: str, node: Schema, *, inherited: str) -> str:
    """What a reader hears who changes the field `name` of an object; empty where it may change."""
    immutable = node.get(IMMUTABLE, [])
    text = (
        immutable.get(name, "") if isinstance(immutable, dict) else f"{name} is immutable" if name in immutable else ""
    )
    return inherited or text


def is_frozen_by_field(node: Schema) -> bool:
    """Whether an immutable object is compared field by field. Of a union few members are set: it is cheaper as a whole."""
    return "properties" in node and not node.get(UNION) and not is_refused(node)


def is_refused(node: Schema) -> bool:
    """Whether the field has no other value than its default or none, and so nothing to change."""
    return UNAVAILABLE in node or ONLY in node


def rules_of_field(name: str, node: Schema, *, frozen: str) -> list[Schema]:
    """What is said at a field of an object."""
    if UNAVAILABLE in node:
        return [{"rule": NEVER, "message": f"{name} {node[UNAVAILABLE]}"}]
    if ONLY in node:
        return [_only(name, node[ONLY])]
    return [{"rule": UNCHANGED, "message": frozen}] if frozen and not is_frozen_by_field(node) else []


def rules_of_object(node: Schema, children: Mapping[str, Schema], *, inherited: str) -> list[Schema]:
    """What is said at an object, whose fields have become `children`."""
    fields, rules = node["properties"], []
    if node.get(UNION):
        members = ", ".join(f"has(self.{name})" for name in fields)
        names = ", ".join(name for name, field in fields.items() if UNAVAILABLE not in field)
        rules.append(
            {"rule": f"[{members}].filter(x, x).size() == 1", "message": f"exactly one of {names} must be set"}
        )
    if not inherited or is_frozen_by_field(node):
        rules += _presence(node, children, inherited=inherited)
    return rules + list(node.get(RULES, []))


def _presence(node: Schema, children: Mapping[str, Schema], *, inherited: str) -> list[Schema]:
    """At a field only a change of its value is seen: that it comes or goes is seen at its object."""
    kept: dict[str, list[str]] = {}
    for name, field in node["properties"].items():
        text = frozen(name, node, inherited=inherited)
        always_there = name in node.get("required", []) or "default" in children[name]
        if text and not always_there and not is_refused(field):
            kept.setdefault(text, []).append(f"has(self.{name}) == has(oldSelf.{name})")
    return [{"rule": " && ".join(same), "message": text} for text, same in kept.items()]


def _only(name: str, value: Any) -> Schema:
    if value == []:
        return {"rule": "size(self) == 0", "message": f"{name} is not available in this release"}
    literal = str(value).lower() if isinstance(value, bool) else repr(value)
    message = f"{name} must be {literal}: other values are not available in this release"
    return {"rule": f"self == {literal}", "message": message}
