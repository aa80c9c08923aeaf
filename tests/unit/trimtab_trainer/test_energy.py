"""Energy counters: what they have counted, also when they begin again."""

from pathlib import Path
from typing import Any

import pytest

from trimtab_trainer.energy import EnergyMeter, processor_counters


def package(root: Path, name: str, energy: int, limit: int = 10**9) -> Path:
    folder = root / name
    folder.mkdir()
    (folder / "max_energy_range_uj").write_text(f"{limit}\n")
    (folder / "energy_uj").write_text(f"{energy}\n")
    return folder / "energy_uj"


def test_processors_are_counted_as_a_whole_and_over_the_end_of_their_counters(tmp_path: Path) -> None:
    first, second = package(tmp_path, "intel-rapl:0", 500), package(tmp_path, "intel-rapl:1", 999_000_000)
    package(tmp_path, "intel-rapl:0:0", 1)
    package(tmp_path, "dtpm", 1)
    meter = EnergyMeter(processor_counters(tmp_path))
    assert meter.watt_hours() == 0
    first.write_text("360000500")
    second.write_text("359000000")
    assert meter.watt_hours() == pytest.approx((360 + 360) / 3600)
    first.write_text("720000500")
    assert meter.watt_hours() == pytest.approx(1080 / 3600)
    assert meter.source == "RAPL (the node's whole processors)"


@pytest.mark.parametrize("is_there", [False, True])
def test_nothing_is_known_without_counters(tmp_path: Path, *, is_there: bool) -> None:
    if is_there:
        package(tmp_path, "intel-rapl:0", 0).unlink()
    meter = EnergyMeter(processor_counters(tmp_path))
    assert (meter.watt_hours(), meter.source) == (None, "")


class Driver:
    """NVML's functions for two accelerators, written after its header; there is no accelerator where tests run."""

    def __init__(self, *millijoules: int) -> None:
        self.millijoules = list(millijoules)

    def nvmlDeviceGetCount_v2(self, count: Any) -> int:  # noqa: N802 - NVML's names
        count._obj.value = len(self.millijoules)
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: Any, device: Any) -> int:  # noqa: N802
        device._obj.value = index.value + 1
        return 0

    def nvmlDeviceGetTotalEnergyConsumption(self, device: Any, energy: Any) -> int:  # noqa: N802
        value = self.millijoules[device.value - 1]
        energy._obj.value = max(value, 0)
        return int(value < 0)


def test_accelerators_count_from_the_beginning_of_the_attempt() -> None:
    driver = Driver(1_000_000, 5_000_000)
    meter = EnergyMeter([], driver)
    driver.millijoules = [2_800_000, 6_800_000]
    assert (meter.watt_hours(), meter.source) == (1.0, "NVML (the pod's accelerators)")


def test_accelerators_without_a_counter() -> None:
    assert EnergyMeter([], Driver(-1)).watt_hours() is None
