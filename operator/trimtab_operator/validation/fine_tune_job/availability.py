"""Fields whose behaviour this release does not have. The CRD refuses them; this is for a CRD that is newer than the operator."""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from trimtab_operator.api.v1alpha1.reasons import Reason
from trimtab_operator.state import ObservedJob, Problem
from trimtab_trainer.contract.base import ONLY, UNAVAILABLE


def spec_is_available(observed: ObservedJob) -> Problem | None:
    """Name the first field that would be ignored."""
    message = next(_refusals(observed.job.spec, "spec"), None)
    return Problem(Reason.SPEC_INVALID, message) if message else None


def _refusals(document: BaseModel, path: str) -> Iterator[str]:
    for name, field in type(document).model_fields.items():
        value = getattr(document, name)
        here = f"{path}.{field.alias or name}"
        yield from _refusal(field, value, here)
        for index, item in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(item, BaseModel):
                yield from _refusals(item, f"{here}[{index}]" if isinstance(value, list) else here)


def _refusal(field: FieldInfo, value: Any, path: str) -> Iterator[str]:
    extra = field.json_schema_extra
    if not isinstance(extra, dict):
        return
    if UNAVAILABLE in extra and value is not None:
        yield f"{path} {extra[UNAVAILABLE]}; remove it."
    if ONLY in extra and value != extra[ONLY]:
        yield f"{path} must be {extra[ONLY]} in this release; remove it."
