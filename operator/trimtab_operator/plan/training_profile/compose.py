"""What should exist for a TrainingProfile: nothing."""

from collections.abc import Sequence
from datetime import datetime

from trimtab_operator.settings import Settings
from trimtab_operator.state import ObservedProfile, Plan, Problem


def make_plan(observed: ObservedProfile, problems: Sequence[Problem], *, settings: Settings, now: datetime) -> Plan:
    """Profiles are read by others; they have no children."""
    del observed, problems, settings, now
    return Plan()
