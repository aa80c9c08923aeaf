"""Conditions of any kind."""

from tests.support.builders import NOW, after

from trimtab_operator.api.v1alpha1 import Reason
from trimtab_operator.status.conditions import MAX_MESSAGE, fact, merge


def test_the_time_moves_with_the_status_only() -> None:
    first = merge([], [fact("Ready", holds=False, reason=Reason.PENDING, message="a")], generation=1, now=NOW)
    second = merge(
        first, [fact("Ready", holds=False, reason=Reason.STARTING, message="b")], generation=2, now=after(60)
    )
    third = merge(
        second, [fact("Ready", holds=True, reason=Reason.SUCCEEDED, message="c")], generation=2, now=after(90)
    )
    assert [found[0].last_transition_time for found in (first, second, third)] == [
        "2026-11-21T12:00:00Z",
        "2026-11-21T12:00:00Z",
        "2026-11-21T12:01:30Z",
    ]
    assert [found[0].observed_generation for found in (first, second, third)] == [1, 2, 2]


def test_what_is_not_said_any_more_is_gone() -> None:
    before = merge([], [fact("Old", holds=None, reason=Reason.PENDING, message="")], generation=1, now=NOW)
    assert merge(before, [], generation=1, now=NOW) == []


def test_long_messages_are_cut() -> None:
    (condition,) = merge(
        [], [fact("Ready", holds=None, reason=Reason.PENDING, message="x" * 5000)], generation=1, now=NOW
    )
    assert len(condition.message) == MAX_MESSAGE
    assert condition.message.endswith("...")
