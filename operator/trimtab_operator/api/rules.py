"""CEL rules of a schema, placed where they are cheap.

For every `self.field` the API server copies the schemas of all fields of `self`, and it evaluates every rule at every write, that of
a status too. So a rule stands at the field that it speaks of, where `self` is the value; at the object stands only what compares fields
or speaks of an absent one. What was found right about a part that cannot change is not asked again, and is one rule for an
object, which looks at each of its fields once. Else rules are a third of the work of a status write (docs/performance.md).
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from trimtab_operator.api.common import BY_FIELD, IMMUTABLE
from trimtab_trainer.contract.base import ONLY, UNAVAILABLE, UNION

Schema = dict[str, Any]
RULES = "x-kubernetes-validations"
NEVER = "false"
"""The rule of a field that may not be set."""
UNCHANGED = "self == oldSelf"
KNOWN = "oldSelf.hasValue()"
_ONCE = f"{KNOWN} || "
_SIZE, _OLD_SIZE = "dyn(self).size()", "dyn(oldSelf).size()"
"""How many fields are set. The type checker knows no size of an object, which costs nothing to ask."""


def at_creation(rule: Schema) -> Schema:
    """A rule about what cannot change: true once, it stays true, and no later write need pay for it.

    A comparison with the old value, and what looks at nothing but the value itself, are left as they are.
    """
    text = rule["rule"]
    if "oldSelf" in text or "self." not in text:
        return rule
    return {**rule, "rule": f"{_ONCE}({text})", "optionalOldSelf": True}


def all_at_creation(schema: Schema) -> Schema:
    """Likewise for every rule of a schema; those of items and of a map's values have no old value to ask about."""
    result = dict(schema)
    if RULES in schema:
        result[RULES] = [at_creation(rule) for rule in schema[RULES]]
    if "properties" in schema:
        result["properties"] = {name: all_at_creation(field) for name, field in schema["properties"].items()}
    return result


def merged(schema: Schema) -> Schema:
    """The rules of each object about what cannot change as one: each has its price, and so has each look at a field.

    A reader hears the first message that applies, and the next one when that is mended.
    """
    result = dict(schema)
    once = [rule for rule in schema.get(RULES, []) if rule["rule"].startswith(_ONCE)]
    if len(once) > 1:
        result[RULES] = [*(rule for rule in schema[RULES] if rule not in once), _one_of(once, schema)]
    if "properties" in schema:
        result["properties"] = {name: merged(field) for name, field in schema["properties"].items()}
    return result


def _one_of(rules: Sequence[Schema], schema: Schema) -> Schema:
    texts = [rule["rule"].removeprefix(_ONCE)[1:-1] for rule in rules]
    *first, last = [_quoted(rule["message"]) for rule in rules]
    choices = (f"!({text}) ? {message} : " for text, message in zip(texts, first, strict=False))
    whole = " && ".join(f"({text})" for text in texts)
    for name in _looked_at_often(whole, schema):
        named = re.sub(rf"\bself\.{name}\b", name, whole)
        whole = f"[self.{name}].all({name}, {named})"
    return {
        "rule": f"{_ONCE}({whole})",
        "messageExpression": "".join(choices) + last,
        "optionalOldSelf": True,
    }


def _looked_at_often(text: str, schema: Schema) -> list[str]:
    """Fields worth a name. Under one the API server would not know the bound of a list or string, and what a call on it may cost."""
    looks = Counter(re.findall(r"\bself\.(\w+)\.\w+\b(?!\()", text))
    called = set(re.findall(r"\bself\.(\w+)(?:\.\w+)*\.\w+\(", text))
    return [
        name
        for name, times in looks.items()
        if times > 1 and name not in called and _is_there(name, schema, schema["properties"])
    ]


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def frozen(name: str, node: Schema, *, inherited: str) -> str:
    """What a reader hears who changes the field `name` of an object; empty where it may change."""
    immutable = node.get(IMMUTABLE, [])
    text = (
        immutable.get(name, "") if isinstance(immutable, dict) else f"{name} is immutable" if name in immutable else ""
    )
    return inherited or text


def is_frozen_by_field(node: Schema) -> bool:
    """Whether an immutable object is compared field by field. A union of small members is cheaper as a whole."""
    return "properties" in node and (not node.get(UNION) or node.get(BY_FIELD, False)) and not is_refused(node)


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
        names = ", ".join(name for name, field in fields.items() if UNAVAILABLE not in field)
        rules.append({"rule": f"{_SIZE} == 1", "message": f"exactly one of {names} must be set"})
    if not inherited or is_frozen_by_field(node):
        rules += _presence(node, children, inherited=inherited)
    return rules + list(node.get(RULES, []))


def _presence(node: Schema, children: Mapping[str, Schema], *, inherited: str) -> list[Schema]:
    """At a field only a change of its value is seen: that it comes or goes is seen at its object."""
    optional = {name: field for name, field in node["properties"].items() if not _is_there(name, node, children)}
    kept: dict[str, list[str]] = {}
    for name, field in optional.items():
        text = frozen(name, node, inherited=inherited)
        if text and not is_refused(field):
            kept.setdefault(text, []).append(name)
    compared = [name for names in kept.values() for name in names]
    told = ""
    if all(name in compared or UNAVAILABLE in field for name, field in optional.items()):
        told = f"{_told_by_number(compared, always=len(node['properties']) - len(optional))} || "
    return [{"rule": told + _same(names), "message": text} for text, names in kept.items()]


def _is_there(name: str, node: Schema, children: Mapping[str, Schema]) -> bool:
    """Whether a field is set in every object that was let in."""
    return name in node.get("required", []) or "default" in children[name]


def _same(names: Sequence[str]) -> str:
    return " && ".join(f"has(self.{name}) == has(oldSelf.{name})" for name in names)


def _told_by_number(names: Sequence[str], *, always: int) -> str:
    """That of these the same are set, as far as it is seen by how many fields are: none, all, or one that was there before."""
    one = " || ".join(f"has(self.{name}) && has(oldSelf.{name})" for name in names)
    most = f"{_SIZE} in [{always}, {always + len(names)}] || {_SIZE} == {always + 1} && ({one})"
    return f"{_SIZE} == {_OLD_SIZE} && ({most})"


def _only(name: str, value: Any) -> Schema:
    if value == []:
        return {"rule": "size(self) == 0", "message": f"{name} is not available in this release"}
    literal = str(value).lower() if isinstance(value, bool) else repr(value)
    message = f"{name} must be {literal}: other values are not available in this release"
    return {"rule": f"self == {literal}", "message": message}
