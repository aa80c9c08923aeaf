"""Times as the API server writes them: RFC 3339, UTC, whole seconds."""

import re
from datetime import UTC, datetime, timedelta

_UNITS = {"s": 1, "m": 60, "h": 3600}


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
    seconds = max(round(duration.total_seconds()), 0)
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if days:
        return f"{days}d{hours % 24:02}h"
    if hours:
        return f"{hours}h{minutes % 60:02}m"
    return f"{minutes}m" if minutes else f"{seconds}s"


def parse_duration(text: str | int) -> timedelta:
    """Read `30s`, `5m`, `1h30m`, or seconds; the schema lets nothing else in."""
    if isinstance(text, int) or text.isdigit():
        return timedelta(seconds=int(text))
    return timedelta(seconds=sum(int(number) * _UNITS[unit] for number, unit in re.findall(r"([0-9]+)([smh])", text)))
