"""Numbers to the coordinates of inline SVG pictures."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from trimtab_operator.console.history import Losses, Weights

WIDTH, HEIGHT = 640, 220
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 12, 28
Label = Callable[[float], str]
COLOURS = ("a", "b", "c", "d", "e", "f")
"""Classes of the style sheet."""


@dataclass(frozen=True)
class Line:
    """One line of a picture."""

    label: str
    colour: str
    points: str
    """`x,y x,y ...` in the picture's own units."""


@dataclass(frozen=True)
class Picture:
    """A picture with labelled axes."""

    title: str
    lines: Sequence[Line]
    left: Sequence[tuple[float, str]]
    """Where on the left axis stands what."""
    bottom: Sequence[tuple[float, str]]
    width: int = WIDTH
    height: int = HEIGHT


def loss_curve(losses: Losses) -> Picture | None:
    """Training and validation loss by step; None without two points."""
    series = {"training": losses.training, "validation": losses.validation}
    finite = {
        name: {float(step): loss for step, loss in sorted(points.items()) if math.isfinite(loss)}
        for name, points in series.items()
    }
    return _picture("Loss by step", finite, bottom=lambda step: f"{step:.0f}", left=lambda loss: f"{loss:.3g}")


def weight_curve(history: Sequence[Weights], *, now: datetime) -> Picture | None:
    """Each version's share over time: steps, not slopes."""
    if not history:
        return None
    versions = sorted({version for entry in history for version in entry.shares})
    starts = [*(entry.at for entry in history), now]
    series: dict[str, dict[float, float]] = {}
    for version in versions:
        points: dict[float, float] = {}
        for entry, end in zip(history, starts[1:], strict=True):
            begin = (entry.at - now).total_seconds()
            points[begin] = entry.shares.get(version, 0)
            # A moment before the next change, so that the line is upright there.
            points[max((end - now).total_seconds() - 0.001, begin + 0.0005)] = entry.shares.get(version, 0)
        series[f"version {version}"] = points
    return _picture(
        "Share of the requests in percent", series, bottom=_ago, left=lambda share: f"{share:.0f}", low=0, high=100
    )


def _ago(seconds: float) -> str:
    return "now" if seconds > -1 else f"-{-seconds / 60:.0f} min" if seconds < -90 else f"{seconds:.0f} s"  # noqa: PLR2004 - a minute and a half


def _picture(
    title: str,
    series: Mapping[str, Mapping[float, float]],
    *,
    bottom: Label,
    left: Label,
    low: float | None = None,
    high: float | None = None,
) -> Picture | None:
    drawn = {name: points for name, points in series.items() if points}
    places = [x for points in drawn.values() for x in points]
    values = [y for points in drawn.values() for y in points.values()]
    if len(set(places)) < 2:  # noqa: PLR2004 - a line has two ends
        return None
    span = (min(places), max(places))
    range_ = (min(values) if low is None else low, max(values) if high is None else high)
    return Picture(
        title=title,
        lines=[
            Line(name, colour, " ".join(f"{_x(x, span):.1f},{_y(y, range_):.1f}" for x, y in sorted(points.items())))
            for (name, points), colour in zip(drawn.items(), COLOURS, strict=False)
        ],
        left=[(_y(value, range_), left(value)) for value in _ticks(*range_)],
        bottom=[(_x(value, span), bottom(value)) for value in _ticks(*span)],
    )


def _ticks(low: float, high: float) -> list[float]:
    return [low, (low + high) / 2, high] if high > low else [low]


def _x(value: float, span: tuple[float, float]) -> float:
    return LEFT + (value - span[0]) / ((span[1] - span[0]) or 1) * (WIDTH - LEFT - RIGHT)


def _y(value: float, span: tuple[float, float]) -> float:
    return HEIGHT - BOTTOM - (value - span[0]) / ((span[1] - span[0]) or 1) * (HEIGHT - TOP - BOTTOM)
