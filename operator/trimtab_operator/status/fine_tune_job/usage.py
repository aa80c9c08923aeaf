"""What a job has used, over all attempts."""

from collections.abc import Sequence

from trimtab_operator.api.quantities import parse_quantity
from trimtab_operator.api.times import parse_time
from trimtab_operator.api.v1alpha1.fine_tune_job import Attempt, JobUsage
from trimtab_operator.api.v1alpha1.training_profile import TrainingProfileSpec
from trimtab_trainer.contract.spec import Distribution

_HOUR = 3600
_DIGITS = 3


def compute_usage(
    attempts: Sequence[Attempt], *, profile: TrainingProfileSpec | None, distribution: Distribution, as_of: str | None
) -> JobUsage:
    """Usage up to the newest report: with the clock instead, an idle job would be written again and again."""
    if profile is None:
        return JobUsage()
    seconds = [active_seconds(attempt, as_of=as_of) for attempt in attempts]
    total, nodes = sum(seconds), distribution.nodes
    trained = sum(attempt.training_seconds for attempt in attempts)
    energy = _energy(attempts, seconds, watts=profile.watts, nodes=nodes)
    carbon = profile.carbon_intensity
    return JobUsage(
        accelerator_seconds=round(total * nodes * distribution.accelerators_per_node, _DIGITS),
        cpu_seconds=round(total * nodes * _cpus(profile), _DIGITS),
        goodput_percent=round(min(trained / total, 1.0) * 100, 1) if total and trained else None,
        cost=round(total * nodes * profile.price_per_hour / _HOUR, 6) if profile.price_per_hour is not None else None,
        energy_watt_hours=round(energy, _DIGITS) if energy is not None else None,
        energy_source=next((attempt.energy_source for attempt in reversed(attempts) if attempt.energy_source), ""),
        co2_grams=round(energy * carbon / 1000, _DIGITS) if energy is not None and carbon is not None else None,
    )


def active_seconds(attempt: Attempt, *, as_of: str | None) -> float:
    """Seconds in which an attempt ran; for the open one, up to that time."""
    if attempt.end_time is not None or attempt.start_time is None or as_of is None:
        return attempt.active_seconds
    since_start = (parse_time(as_of) - parse_time(attempt.start_time)).total_seconds()
    return attempt.active_seconds + max(since_start, 0.0)


def _cpus(profile: TrainingProfileSpec) -> float:
    resources = profile.resources
    return float(parse_quantity(resources.requests.get("cpu", resources.limits.get("cpu", 0))))


def _energy(attempts: Sequence[Attempt], seconds: Sequence[float], *, watts: float | None, nodes: int) -> float | None:
    """What the trainer tells, else the profile's watts for as long as it ran."""
    estimate = [time * watts * nodes / _HOUR if watts is not None else None for time in seconds]
    known = [
        attempt.energy_watt_hours if attempt.energy_watt_hours is not None else guess
        for attempt, guess in zip(attempts, estimate, strict=True)
    ]
    said = [energy for energy in known if energy is not None]
    return sum(said) if said else None
