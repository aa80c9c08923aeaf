"""Times as the API server writes them: RFC 3339, UTC, whole seconds."""

from datetime import UTC, datetime, timedelta


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
