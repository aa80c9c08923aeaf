"""When a running attempt must save and stop: suspended, out of time, out of money. All three stop it the same way."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from trimtab_operator.api import times
from trimtab_operator.api.v1alpha1 import FineTuneJob
from trimtab_operator.api.v1alpha1.fine_tune_job import Attempt
from trimtab_operator.api.v1alpha1.reasons import Reason
from trimtab_operator.api.v1alpha1.training_profile import TrainingProfileSpec


@dataclass(frozen=True, slots=True)
class Limit:
    """A bound on the active time of all attempts together."""

    reason: Reason
    time: timedelta
    message: str


def limits(job: FineTuneJob, profile: TrainingProfileSpec) -> list[Limit]:
    """What bounds this job: its deadline and its budgets, each as active time."""
    policy, budget, distribution = job.spec.run_policy, job.spec.budget, job.spec.distribution
    bounds: list[Limit] = []
    seconds = [limit for limit in (policy.active_deadline_seconds, profile.limits.max_active_deadline_seconds) if limit]
    if seconds:
        deadline = times.seconds(min(seconds))
        message = f"The job ran for its deadline of {times.format_duration(deadline)} over all attempts (runPolicy.activeDeadlineSeconds)."
        bounds.append(Limit(Reason.DEADLINE_EXCEEDED, deadline, message))
    if budget.max_accelerator_hours is not None:
        units = distribution.nodes * max(distribution.accelerators_per_node, 1)
        message = f"The job spent its budget of {budget.max_accelerator_hours:g} accelerator hours (budget.maxAcceleratorHours)."
        bounds.append(
            Limit(Reason.BUDGET_EXCEEDED, times.seconds(3600 * budget.max_accelerator_hours / units), message)
        )
    if budget.max_cost is not None and profile.price_per_hour:
        rate = distribution.nodes * profile.price_per_hour
        message = f"The job spent its budget of {budget.max_cost:g} (budget.maxCost)."
        bounds.append(Limit(Reason.BUDGET_EXCEEDED, times.seconds(3600 * budget.max_cost / rate), message))
    return sorted(bounds, key=lambda bound: bound.time)


def active_time(attempts: Sequence[Attempt], *, now: datetime) -> timedelta:
    """Time in which pods ran, over all attempts. Queueing, scheduling and suspension do not count."""
    return sum((_active(attempt, now=now) for attempt in attempts), timedelta(0))


def exceeded(
    job: FineTuneJob, profile: TrainingProfileSpec, attempts: Sequence[Attempt], *, now: datetime
) -> Limit | None:
    """The first bound that is reached."""
    active = active_time(attempts, now=now)
    return next((bound for bound in limits(job, profile) if active >= bound.time), None)


def time_left(
    job: FineTuneJob, profile: TrainingProfileSpec, attempts: Sequence[Attempt], *, now: datetime
) -> timedelta | None:
    """Until the first bound, while an attempt runs."""
    if not attempts or attempts[-1].start_time is None or attempts[-1].end_time is not None:
        return None
    active = active_time(attempts, now=now)
    return min((max(bound.time - active, timedelta(0)) for bound in limits(job, profile)), default=None)


def _active(attempt: Attempt, *, now: datetime) -> timedelta:
    if attempt.end_time is not None or attempt.start_time is None:
        return timedelta(seconds=attempt.active_seconds)
    return timedelta(seconds=attempt.active_seconds) + max(now - times.parse_time(attempt.start_time), timedelta(0))
