"""The report's pictures: matplotlib, without its global state and without a display."""

import io
from typing import Any


def blank_axes(width: float, height: float, *, dpi: int = 120) -> Any:
    """A matplotlib `Axes`, alone on a figure of so many inches and dots an inch."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - half a second, which only who draws need pay

    return Figure(figsize=(width, height), dpi=dpi, layout="constrained").subplots()


def png(axes: Any) -> bytes:
    """The figure of an `Axes` as PNG; equal figures are equal bytes."""
    content = io.BytesIO()
    axes.figure.savefig(content, format="png", metadata={"Software": None})
    return content.getvalue()
