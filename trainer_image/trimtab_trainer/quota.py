"""What the container may use of its machine: CPUs and memory, by cgroup version 2 or 1. Imports no torch."""

import math
import os
from collections.abc import MutableMapping
from pathlib import Path

CGROUP_ROOT = Path("/sys/fs/cgroup")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
SPINS = 2000
"""How often a thread of libgomp looks for work before it sleeps; 0.1 ms.

Threads that wait awake are faster alone and far slower beside other work, with libgomp's own 300,000 by a factor of ten: who
shares a node must not fall that deep, who has one alone can ask for more (docs/training.md has the figures).
"""


def cpu_quota(root: Path = CGROUP_ROOT) -> float | None:
    """CPUs that the container's cgroup (version 2 or 1) grants; None without a limit."""
    try:
        quota, period = (root / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (root / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (root / "cpu" / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    return None if quota in {"max", "-1"} else int(quota) / int(period)


def memory_limit(root: Path = CGROUP_ROOT) -> int | None:
    """Bytes that the container's cgroup (version 2 or 1) grants; None without a limit."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            text = (root / name).read_text().strip()
        except OSError:
            continue
        # Version 1 writes "no limit" as a number near 2^63.
        return None if text == "max" or int(text) >= 2**60 else int(text)
    return None


def thread_count(root: Path = CGROUP_ROOT) -> int:
    """Threads for arithmetic: more than the quota would be throttled, which is slower than fewer threads."""
    usable = len(os.sched_getaffinity(0))
    quota = cpu_quota(root)
    return max(1, min(usable, math.ceil(quota) if quota else usable))


def limit_threads(environment: MutableMapping[str, str] = os.environ) -> None:
    """Tell the arithmetic libraries before they are loaded; they would count the machine's cores."""
    for variable in THREAD_VARIABLES:
        environment.setdefault(variable, str(thread_count()))
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", str(SPINS))
