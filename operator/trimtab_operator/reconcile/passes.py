"""What one pass over an object led to, and what every kind's pass shares."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from trimtab_operator.api.v1alpha1 import Reason
from trimtab_operator.cluster.facade import Applied
from trimtab_operator.state import EventNote, Manifest, Outcome


@dataclass(frozen=True, slots=True)
class Pass:
    """What to do about the key next."""

    again: bool = False
    """The pass changed something: look at once what follows from it."""
    after: timedelta | None = None
    """Look again then, even if nothing happens."""
    refused: bool = False
    """The API server refused a write: try again with backoff."""


SETTLED = Pass()
WROTE = Pass(after=timedelta(milliseconds=100))
"""Children were written: say what is true of them when the answer of their controllers is here, mostly sooner than this."""


def finished(applied: Applied, *, reported: bool, after: timedelta | None) -> Pass:
    """The end of a pass that went through all steps."""
    refused = applied.rejected is not None
    return Pass(again=reported and not refused, after=after, refused=refused)


def with_rejection(observed: Any, applied: Applied) -> Any:
    """The same observation with what the API server has just refused, so that this pass's status tells it."""
    return observed if applied.rejected is None else replace(observed, rejected=applied.rejected)


def unreadable(body: Manifest, problem: str, *, now: datetime) -> Outcome:
    """The status of an object that this version of the operator cannot read: said once, and left alone until it changes."""
    status: Manifest = dict(body.get("status") or {})
    generation = body["metadata"].get("generation", 1)
    message = f"The operator cannot read this object: {problem}"[:1024]
    before = {condition["type"]: condition for condition in status.get("conditions") or ()}
    conditions = dict(before)
    for kind, value in (("Accepted", "False"), ("Ready", "False"), ("Stalled", "True")):
        known = before.get(kind, {})
        since = known.get("lastTransitionTime") if known.get("status") == value else None
        conditions[kind] = {
            "type": kind,
            "status": value,
            "reason": Reason.SPEC_INVALID.value,
            "message": message,
            "lastTransitionTime": since or now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "observedGeneration": generation,
        }
    status |= {"conditions": list(conditions.values()), "observedGeneration": generation}
    return Outcome(status=status, events=(EventNote("Warning", Reason.SPEC_INVALID, message),))
