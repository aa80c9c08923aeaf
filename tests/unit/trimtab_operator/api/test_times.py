"""Times as the API server writes them."""

from datetime import UTC, datetime, timedelta

import pytest

from trimtab_operator.api.times import format_duration, format_time, parse_time


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("2026-11-21T12:00:00Z", "2026-11-21T12:00:00Z"),
        ("2026-11-21T12:00:00.987654Z", "2026-11-21T12:00:00Z"),
        ("2026-11-21T13:00:00+01:00", "2026-11-21T12:00:00Z"),
        ("2026-11-21T12:00:00", "2026-11-21T12:00:00Z"),
    ],
)
def test_time(text: str, written: str) -> None:
    assert format_time(parse_time(text)) == written


def test_a_time_is_read_as_it_was_written() -> None:
    time = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert parse_time(format_time(time)) == time


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (-5, "0s"),
        (59, "59s"),
        (60, "1m"),
        (3599, "59m"),
        (3600, "1h00m"),
        (11100, "3h05m"),
        (187200, "2d04h"),
    ],
)
def test_duration(seconds: int, text: str) -> None:
    assert format_duration(timedelta(seconds=seconds)) == text
