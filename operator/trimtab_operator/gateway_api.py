"""Gateway API's HTTPRoute as typed values: parsed once, here, then trusted."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

Manifest = dict[str, Any]
_CONDITIONS = ("Accepted", "ResolvedRefs")


@dataclass(frozen=True, slots=True)
class Route:
    """What matters of it."""

    name: str
    weights: Mapping[str, int]
    """Shares of the requests, by Service."""
    is_followed: bool
    """Every Gateway that it names has taken it as it is now."""
    is_refused: bool
    """None of them takes it: nobody answers."""
    trouble: str
    """Why one does not; empty where none says so."""

    @classmethod
    def parse(cls, body: Manifest) -> Self:
        """Read an object of the API server; what no controller has written yet is empty."""
        metadata, spec = body["metadata"], body["spec"]
        told = [_conditions(body, parent) for parent in spec.get("parentRefs") or ()]
        current = [
            {each["type"]: each for each in conditions if each.get("observedGeneration", 0) >= metadata["generation"]}
            for conditions in told
        ]
        return cls(
            name=metadata["name"],
            weights={
                str(backend["name"]): int(backend.get("weight", 1))
                for rule in spec.get("rules") or ()
                for backend in rule.get("backendRefs") or ()
            },
            is_followed=bool(current)
            and all(each.get(kind, {}).get("status") == "True" for each in current for kind in _CONDITIONS),
            is_refused=all(each.get("Accepted", {}).get("status") == "False" for each in current),
            trouble="; ".join(_troubles(spec, current)),
        )


def _conditions(body: Manifest, parent: Manifest) -> list[Manifest]:
    """Of the Gateway that a reference names, as its controller wrote them."""
    parents = (body.get("status") or {}).get("parents") or ()
    named = _identity(parent, body)
    return [each for told in parents if _identity(told["parentRef"], body) == named for each in told["conditions"]]


def _identity(parent: Manifest, body: Manifest) -> tuple[str, str, str]:
    namespace = parent.get("namespace") or body["metadata"]["namespace"]
    return (namespace, parent["name"], parent.get("sectionName") or "")


def _troubles(spec: Manifest, current: list[Manifest]) -> Iterator[str]:
    for parent, conditions in zip(spec.get("parentRefs") or (), current, strict=True):
        for kind in _CONDITIONS:
            said = conditions.get(kind, {})
            if said.get("status") == "False":
                yield f"Gateway '{parent['name']}' says {kind}=False: {said.get('reason', '')}: {said.get('message', '')}"
