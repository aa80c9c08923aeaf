"""What goes, and when: old Jobs, Jobs that must not run any more, and the FineTuneJob itself after its time to live."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from trimtab_operator.api import times
from trimtab_operator.api.v1alpha1 import FineTuneJob
from trimtab_operator.plan.fine_tune_job.observation import TrainerJob
from trimtab_operator.state import ObjectRef

KEPT_JOBS = 3
"""Newest ended Jobs whose pods stay, for their logs."""


def time_to_live(job: FineTuneJob, *, now: datetime) -> timedelta | None:
    """What is left of it; zero when it is over, None when the job stays."""
    seconds, end = job.spec.run_policy.ttl_seconds_after_finished, job.status.completion_time
    if seconds is None or end is None:
        return None
    return max(times.parse_time(end) + times.seconds(seconds) - now, timedelta(0))


def surplus_jobs(jobs: Sequence[TrainerJob], *, open_attempt: int | None) -> tuple[ObjectRef, ...]:
    """Jobs of closed attempts that still run (zombies), and ended ones beyond those that are kept."""
    closed = sorted((job for job in jobs if job.attempt != open_attempt), key=lambda job: job.attempt, reverse=True)
    ended = [job for job in closed if job.has_ended]
    doomed = [job for job in closed if not job.has_ended] + ended[KEPT_JOBS:]
    return tuple(job.ref for job in doomed if not job.is_deleting)
