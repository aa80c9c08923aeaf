"""Conditions of any kind: set from facts, with transition times that tell the truth."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Literal, NamedTuple

from trimtab_operator.api.common import Condition
from trimtab_operator.api.times import format_time
from trimtab_operator.api.v1alpha1.reasons import Reason

MAX_MESSAGE = 1024


class Fact(NamedTuple):
    """What a condition should say."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: Reason
    message: str


def fact(kind: str, *, holds: bool | None, reason: Reason, message: str) -> Fact:
    """A fact that holds, does not, or (None) is not known yet."""
    status: Literal["True", "False", "Unknown"] = "Unknown" if holds is None else "True" if holds else "False"
    return Fact(kind, status, reason, message)


def merge(stored: Sequence[Condition], facts: Iterable[Fact], *, generation: int, now: datetime) -> list[Condition]:
    """The conditions of these facts. The time of a condition moves only when its status does."""
    before, time = {condition.type: condition for condition in stored}, format_time(now)
    return [_condition(said, before.get(said.type), generation=generation, time=time) for said in facts]


def _condition(said: Fact, before: Condition | None, *, generation: int, time: str) -> Condition:
    same = before is not None and before.status == said.status
    return Condition(
        type=said.type,
        status=said.status,
        reason=said.reason.value,
        message=shorten(said.message),
        last_transition_time=before.last_transition_time if same and before else time,
        observed_generation=generation,
    )


def shorten(message: str) -> str:
    """The API bounds messages; an ellipsis says that there was more."""
    return message if len(message) <= MAX_MESSAGE else f"{message[: MAX_MESSAGE - 3]}..."
