"""Times as the API server writes them: RFC 3339, UTC, whole seconds."""

import re
from datetime import UTC, datetime, timedelta

_UNITS = {"s": 1, "m": 60, "h": 3600}
_LONGEST_SECONDS = 100 * 365 * 86400
"""The schema lets people write numbers that no clock could count, and they do, to say "never": a century is as long."""


def seconds(number: float) -> timedelta:
    """So many seconds, as a time that can be added to any other."""
    return timedelta(seconds=min(number, _LONGEST_SECONDS))


def parse_time(text: str) -> datetime:
    """Read a timestamp of the API server or of a trainer; without an offset it is UTC.

    Raises:
        ValueError: the text is no timestamp.
    """
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def format_time(time: datetime) -> str:
    """Write a timestamp the way metav1.Time does."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def format_duration(duration: timedelta) -> str:
    """Write a duration for humans: `45s`, `12m`, `3h05m`, `2d04h`."""
    whole = max(round(duration.total_seconds()), 0)
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if days:
        return f"{days}d{hours % 24:02}h"
    if hours:
        return f"{hours}h{minutes % 60:02}m"
    return f"{minutes}m" if minutes else f"{whole}s"


def parse_duration(text: str | int) -> timedelta:
    """Read `30s`, `5m`, `1h30m`, or seconds; the schema lets nothing else in."""
    if isinstance(text, int) or text.isdigit():
        return seconds(int(text))
    return seconds(sum(int(number) * _UNITS[unit] for number, unit in re.findall(r"([0-9]+)([smh])", text)))
