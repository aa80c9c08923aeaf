"""Fields whose behaviour this release does not have. The CRD refuses them; this is for a CRD that is newer than the operator."""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel

from trimtab_operator.api.v1alpha1.reasons import Reason
from trimtab_operator.state import ObservedJob, Problem
from trimtab_trainer.contract.base import ONLY, UNAVAILABLE

Marks = Mapping[str, Any]
"""What the JSON schema of a field says besides pydantic's own words."""


def spec_is_available(observed: ObservedJob) -> Problem | None:
    """Name the first field that would be ignored."""
    message = next(_refusals(observed.job.spec, "spec"), None)
    return Problem(Reason.SPEC_INVALID, message) if message else None


def _refusals(document: BaseModel, path: str) -> Iterator[str]:
    if not _is_marked(type(document)):
        return
    for name, alias, marks in _fields(type(document)):
        value = getattr(document, name)
        here = f"{path}.{alias}"
        yield from _refusal(marks, value, here)
        if isinstance(value, BaseModel):
            yield from _refusals(value, here)
        elif isinstance(value, list):
            for index, item in enumerate(value):
                if isinstance(item, BaseModel):
                    yield from _refusals(item, f"{here}[{index}]")


@cache
def _is_marked(model: type[BaseModel]) -> bool:
    """Whether a field bears a mark, its own or of what it holds. In most releases there is none to look for."""
    schema = json.dumps(model.model_json_schema())
    return UNAVAILABLE in schema or ONLY in schema


@cache
def _fields(model: type[BaseModel]) -> tuple[tuple[str, str, Marks], ...]:
    """Name, name on the wire and marks of each field: every pass asks, and pydantic computes them anew."""
    return tuple(
        (name, field.alias or name, field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {})
        for name, field in model.model_fields.items()
    )


def _refusal(marks: Marks, value: Any, path: str) -> Iterator[str]:
    if UNAVAILABLE in marks and value is not None:
        yield f"{path} {marks[UNAVAILABLE]}; remove it."
    if ONLY in marks and value != marks[ONLY]:
        yield f"{path} must be {marks[ONLY]} in this release; remove it."
