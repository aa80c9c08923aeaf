"""What should exist for a ModelVersion: nothing but itself. Its bytes lie in the store."""

from collections.abc import Sequence
from datetime import datetime

from trimtab_operator.settings import Settings
from trimtab_operator.state import ObservedVersion, Plan, Problem


def make_plan(observed: ObservedVersion, problems: Sequence[Problem], *, settings: Settings, now: datetime) -> Plan:
    """Nothing to make, nothing to delete."""
    del observed, problems, settings, now
    return Plan()
