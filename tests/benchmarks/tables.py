"""What cells of the benchmarks' tables have in common."""

import statistics
from collections.abc import Sequence


def mean_and_bounds(values: Sequence[float]) -> str:
    """Mean (smallest-largest)."""
    return f"{statistics.mean(values):.3f} ({min(values):.3f}-{max(values):.3f})"
