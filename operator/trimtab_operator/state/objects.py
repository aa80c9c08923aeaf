"""Names of objects, and what is said of them: the values that every kind needs."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple

from trimtab_operator.api.v1alpha1 import Reason

Manifest = dict[str, Any]
"""An object as the API server speaks it."""


class Key(NamedTuple):
    """Names one object of ours; what the queue holds."""

    kind: str
    namespace: str
    name: str


class ObjectRef(NamedTuple):
    """Names one object of any kind, as it was observed: a delete carries uid and resourceVersion as preconditions."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str
    resource_version: str = ""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that keeps an object from going on. `who` must act."""

    reason: Reason
    message: str
    who: Literal["user", "platform"] = "user"


@dataclass(frozen=True, slots=True)
class RejectedWrite:
    """The API server refused a child (quota, admission): told in the status until a write succeeds."""

    reason: Reason
    message: str
    kind: str
    at: datetime


@dataclass(frozen=True, slots=True)
class EventNote:
    """An Event to post after the status that it speaks of was stored."""

    type: Literal["Normal", "Warning"]
    reason: Reason
    message: str
    action: str = "Reconcile"
