"""The kinds' schemas as a page for readers: docs/api-reference.md."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from trimtab_operator.api.common import ApiObject
from trimtab_operator.api.crd import DEFAULT_WORDS, custom_resource_definition, object_schema
from trimtab_operator.api.rules import NEVER, RULES
from trimtab_operator.names import API_VERSION

_HEAD = f"""<!-- Generated from operator/trimtab_operator/api by `make generate`: change the models, not this file. -->
# API reference: `{API_VERSION}`

Required fields are marked with \\*. `kubectl explain <kind>.spec` says the same in the terminal.
"""

_BOUNDS = {
    "minimum": "≥ {}",
    "maximum": "≤ {}",
    "minLength": "≥ {} characters",
    "maxLength": "≤ {} characters",
    "minItems": "≥ {} entries",
    "maxItems": "≤ {} entries",
    "maxProperties": "≤ {} entries",
}


def api_reference(kinds: Sequence[type[ApiObject]]) -> str:
    """The whole page."""
    overview = ["", "| kind | short name | scope | what it is |", "|---|---|---|---|"]
    sections: list[str] = []
    for kind in kinds:
        crd = custom_resource_definition(kind)["spec"]
        schema = object_schema(kind)
        anchor = crd["names"]["kind"].lower()
        overview.append(
            f"| [{crd['names']['kind']}](#{anchor}) | `{crd['names']['shortNames'][0]}` | {crd['scope']} | {schema['description']} |"
        )
        sections += _kind(crd["names"]["kind"], schema)
    return _HEAD + "\n".join([*overview, *sections]) + "\n"


def _kind(name: str, schema: dict[str, Any]) -> list[str]:
    lines = ["", f"## {name}", "", schema["description"]]
    lines += [f"- {rule['message']}" for rule in schema.get(RULES, [])]
    for part in ("spec", "status"):
        for path, node in _objects(part, schema["properties"][part]):
            lines += ["", f"### {name} `{path}`", "", *_object(node)]
    return lines


def _objects(path: str, node: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object with fields of its own, parents first."""
    if node.get("properties"):
        yield path, node
        for name, child in node["properties"].items():
            yield from _objects(f"{path}.{name}", child)
    elif "items" in node:
        yield from _objects(f"{path}[]", node["items"])
    elif isinstance(node.get("additionalProperties"), dict):
        yield from _objects(f"{path}.<key>", node["additionalProperties"])


def _object(node: dict[str, Any]) -> list[str]:
    rules = [f"- {message}" for message in dict.fromkeys(_messages(node))]
    lines = [node.get("description", ""), *([""] if rules else []), *rules, ""]
    lines += ["| field | type | default | what it says |", "|---|---|---|---|"]
    for name, child in node["properties"].items():
        mark = r" \*" if name in node.get("required", []) else ""
        default = f"`{json.dumps(child['default'])}`" if "default" in child else ""
        lines.append(f"| `{name}`{mark} | {_type(child)} | {default} | {_text(child, refused=_is_refused(child))} |")
    return lines


def _messages(node: dict[str, Any]) -> Iterator[str]:
    """What an object and those of its fields that are no objects refuse. Objects speak for themselves."""
    fields = [child for child in node["properties"].values() if "properties" not in child and not _is_refused(child)]
    for ruled in (node, *fields):
        yield from (rule["message"] for rule in ruled.get(RULES, []))


def _is_refused(node: dict[str, Any]) -> bool:
    return any(rule["rule"] == NEVER for rule in node.get(RULES, []))


def _text(node: dict[str, Any], *, refused: bool) -> str:
    # The table has a column for defaults.
    text = node.get("description", "").partition(DEFAULT_WORDS)[0].replace("|", "\\|").replace("\n", " ")
    if bounds := [_bound(key, node) for key in _BOUNDS if key in node]:
        text += f" ({', '.join(bounds)})"
    return f"{text} **Not in this release.**" if refused else text


def _bound(key: str, node: dict[str, Any]) -> str:
    word = _BOUNDS[key]
    if node.get(f"exclusive{key.capitalize()}"):
        word = word.replace("≥", ">").replace("≤", "<")
    return word.format(node[key])


def _type(node: dict[str, Any]) -> str:
    if node.get("x-kubernetes-int-or-string"):
        return "quantity"
    if "enum" in node:
        return " \\| ".join(f"`{value}`" if value != "" else '`""`' for value in node["enum"])
    if "items" in node:
        return f"list of {_type(node['items'])}"
    if isinstance(node.get("additionalProperties"), dict):
        return f"map to {_type(node['additionalProperties'])}"
    return str(node.get("type", "any"))
