"""How values read on a page: the mood of a word, a number, a time."""

import math
from datetime import datetime

from trimtab_operator.api.common import Condition
from trimtab_operator.api.times import format_duration, parse_time

_MOODS = {
    "good": "Complete Stable Successful Promoted True Skipped",
    "bad": "Failed Rejected RolledBack Degraded Unavailable Error Aborted",
    "moving": "Starting Running Evaluating Publishing Retrying Suspending Stopping Progressing",
    "waiting": "Pending Queued Suspended Paused Inconclusive Superseded",
}
_MOOD_OF = {word: mood for mood, words in _MOODS.items() for word in words.split()}
_LARGE = 10_000
_TROUBLE = ("Stalled", "Failed")
_PROOFS = ("Verified", "Promotable", "Accepted", "Conformant")


def mood(word: str) -> str:
    """The class of a state, phase or outcome in the style sheet."""
    return _MOOD_OF.get(word, "plain")


def condition_mood(condition: Condition | None) -> str:
    """A condition that is True is not always good, and one that is False not always bad."""
    if condition is None or condition.status == "Unknown":
        return "plain"
    holds = condition.status == "True"
    if condition.type in _TROUBLE:
        return "bad" if holds else "plain"
    if condition.type in ("Reconciling", "Suspended"):
        return "moving" if holds else "plain"
    if holds:
        return "good"
    return "bad" if condition.type in _PROOFS else "plain"


def number(value: object) -> str:
    """Four digits that matter; what is no number stays as it is."""
    try:
        found = float(str(value))
    except ValueError:
        return str(value)
    if not math.isfinite(found):
        return str(value)
    return f"{found:,.0f}" if abs(found) >= _LARGE else f"{found:.4g}"


def ago(text: str, now: datetime) -> str:
    """`12m ago`; what is no time stays as it is."""
    try:
        return f"{format_duration(now - parse_time(text))} ago"
    except ValueError:
        return text
