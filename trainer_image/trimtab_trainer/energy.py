"""Energy as the machine counts it: Intel and AMD processors by RAPL, NVIDIA accelerators by NVML. Otherwise nothing is known."""

import ctypes
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

POWERCAP = Path("/sys/class/powercap")
_PACKAGE = re.compile(r"(intel|amd)-rapl:\d+")
"""Whole processors; `intel-rapl:0:0` is a part of one."""
JOULES_PER_WATT_HOUR = 3600.0
PROFILE_WATTS = "the TrainingProfile's watts"
"""The source where nothing counts."""


@dataclass
class Counter:
    """One processor's counter, in microjoules. It begins again at 0 when it is full."""

    path: Path
    limit: int
    last: int
    joules: float = 0.0

    def read(self) -> float:
        """Joules since the beginning."""
        now = int(self.path.read_text())
        self.joules += (now - self.last if now >= self.last else now + self.limit - self.last) / 1e6
        self.last = now
        return self.joules


def processor_counters(powercap: Path = POWERCAP) -> list[Counter]:
    """Those that may be read; in containers that do not run as root there are none."""
    found = []
    try:
        for folder in sorted(path for path in powercap.iterdir() if _PACKAGE.fullmatch(path.name)):
            path = folder / "energy_uj"
            limit = int((folder / "max_energy_range_uj").read_text())
            found.append(Counter(path, limit, int(path.read_text())))
    except (OSError, ValueError):
        return []
    return found


def accelerator_joules(library: Any) -> float | None:
    """What all accelerators that NVML shows have used since their driver was loaded; None where they do not count."""
    count = ctypes.c_uint()
    if library.nvmlDeviceGetCount_v2(ctypes.byref(count)) or not count.value:
        return None
    total = 0.0
    for index in range(count.value):
        device, millijoules = ctypes.c_void_p(), ctypes.c_ulonglong()
        if library.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(device)):
            return None
        if library.nvmlDeviceGetTotalEnergyConsumption(device, ctypes.byref(millijoules)):
            return None
        total += millijoules.value / 1e3
    return total


def load_nvml() -> Any:
    """The driver's library, initialised; None without one."""
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
        return library if library.nvmlInit_v2() == 0 else None
    except (OSError, AttributeError):
        return None


@dataclass
class EnergyMeter:
    """Counts from its making on."""

    processors: list[Counter] = field(default_factory=list)
    nvml: Any = None
    start: float | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if self.nvml is not None:
            self.start = accelerator_joules(self.nvml)

    @property
    def source(self) -> str:
        """Where the numbers come from; "" where nothing counts."""
        names = ["RAPL (the node's whole processors)"] if self.processors else []
        names += ["NVML (the pod's accelerators)"] if self.start is not None else []
        return " and ".join(names)

    def watt_hours(self) -> float | None:
        """Since the beginning; None where nothing counts."""
        if not self.source:
            return None
        try:
            joules = sum(counter.read() for counter in self.processors)
        except (OSError, ValueError):
            joules, self.processors = 0.0, []
        now = accelerator_joules(self.nvml) if self.start is not None else None
        if now is not None and self.start is not None:
            joules += now - self.start
        return joules / JOULES_PER_WATT_HOUR if self.source else None


def make_meter(*, has_accelerators: bool) -> EnergyMeter:
    """With every counter that this pod may read. Accelerators that belong to others are not its own to count."""
    return EnergyMeter(processor_counters(), load_nvml() if has_accelerators else None)
