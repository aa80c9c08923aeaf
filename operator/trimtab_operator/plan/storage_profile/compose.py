"""What should exist for a StorageProfile: nothing."""

from collections.abc import Sequence
from datetime import datetime

from trimtab_operator.settings import Settings
from trimtab_operator.state import ObservedStorage, Plan, Problem


def make_plan(observed: ObservedStorage, problems: Sequence[Problem], *, settings: Settings, now: datetime) -> Plan:
    """Profiles are read by others; they have no children."""
    del observed, problems, settings, now
    return Plan()
