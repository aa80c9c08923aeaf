"""One attempt's surroundings: its configuration, peers, store, reporter, scratch space and clock."""

import resource
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trimtab_trainer import logs
from trimtab_trainer.contract.gates import GateMeasurement
from trimtab_trainer.contract.manifests import reports_prefix
from trimtab_trainer.contract.messages import CommittedCheckpoint, MetricValue, Phase, Progress, PublishedModel, Usage
from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.energy import PROFILE_WATTS, EnergyMeter
from trimtab_trainer.interruption import StopSignal
from trimtab_trainer.reporting.progress import Reporter, StatusEndpoint, metric_values
from trimtab_trainer.world import World

MAXIMUM_WARNINGS = 16
MAXIMUM_METRICS = 64


@dataclass
class Attempt:
    """What every phase of a run may use."""

    config: RunConfig
    stop: StopSignal
    reporter: Reporter
    scratch: Path
    world: World = field(default_factory=World)
    version_endpoint: StatusEndpoint | None = None
    """Where a version is reserved."""
    started: float = field(default_factory=time.monotonic)
    seconds: dict[str, float] = field(default_factory=dict)
    """How long each phase took."""
    warnings: list[str] = field(default_factory=list)
    meter: EnergyMeter = field(default_factory=EnergyMeter)
    """Energy counters of the machine, where there are any."""
    step: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    stepping_seconds: float = 0.0
    stall_seconds: float = 0.0
    published: PublishedModel | None = None
    report_uri: str = ""
    gates: list[GateMeasurement] = field(default_factory=list)
    """The numbers of the gates, once they are measured."""
    champion: str = ""
    """Name of the version that was measured as champion."""

    @property
    def last_checkpoint(self) -> CommittedCheckpoint | None:
        """The newest one in the store."""
        committed = list(self.reporter.committed()) or self.reporter.report.checkpoints
        return committed[-1] if committed else None

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Measure and log one phase."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - start
            logs.fact("phase_ended", phase=name.replace(" ", "_"), seconds=round(self.seconds[name], 3))

    def enter(self, phase: Phase, **changes: Any) -> None:
        """Tell the operator what begins now."""
        if self.world.is_main:
            logs.fact("phase_entered", phase=phase)
        self.reporter.update(urgent=True, phase=phase, usage=self.usage(), **changes)

    def warn(self, message: str) -> None:
        """Something the reader should know, in the log, the status and the report."""
        logs.warning("warning", message=message)
        self.warnings.append(message)
        self.reporter.update(warnings=self.warnings[:MAXIMUM_WARNINGS])

    def note_progress(self, progress: Progress, metrics: Mapping[str, float]) -> None:
        """The loop's newest numbers; sent within two seconds."""
        self.step = progress.step
        self.metrics |= metrics
        self.reporter.update(progress=progress, metrics=self.metric_values(MAXIMUM_METRICS), usage=self.usage())

    def metric_values(self, limit: int) -> list[MetricValue]:
        """The newest metrics in wire form."""
        return metric_values(self.metrics, limit)

    def usage(self) -> Usage:
        """What this attempt has spent so far: energy as it is counted, else by the profile's watts; CO2 by its intensity."""
        active, nodes, watts = time.monotonic() - self.started, self.config.distribution.nodes, self.config.watts
        energy, source = self.meter.watt_hours() if nodes == 1 else None, self.meter.source
        if energy is None:  # counters of other nodes cannot be read from here
            energy, source = (None, "") if watts is None else (watts * nodes * active / 3600, PROFILE_WATTS)
        carbon = self.config.carbon_intensity
        return Usage(
            active_seconds=round(active, 3),
            training_seconds=round(self.stepping_seconds, 3),
            checkpoint_stall_seconds=round(self.stall_seconds, 6),
            energy_watt_hours=energy,
            energy_source=source,
            co2_grams=None if energy is None or carbon is None else energy / 1000 * carbon,
        )

    def report_key(self, name: str) -> str:
        """Key of a report file in the store."""
        return f"{reports_prefix(self.config.store, self.config.job)}/{name}"


def peak_memory_bytes() -> int:
    """The most memory this process has had resident."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
