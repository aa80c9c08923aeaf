"""What should exist for a ModelRollout now."""

from collections.abc import Sequence
from datetime import datetime

from trimtab_operator.plan.model_rollout.deployment import deployment
from trimtab_operator.plan.model_rollout.disruption_budget import disruption_budget
from trimtab_operator.plan.model_rollout.service import service
from trimtab_operator.settings import Settings
from trimtab_operator.state import ObservedRollout, Plan, Problem


def make_plan(observed: ObservedRollout, problems: Sequence[Problem], *, settings: Settings, now: datetime) -> Plan:
    """Move to the version that the spec asks for.

    The plan never waits for what is there to become ready: a new spec replaces a version that cannot start. With a problem
    nothing is planned, and what serves goes on serving.
    """
    del now  # nothing here depends on the time
    rollout, version = observed.rollout, observed.wanted
    if problems or rollout.metadata.deletion_timestamp is not None:
        return Plan()
    if version is None or observed.profile is None or observed.storage is None:
        return Plan()
    builtin = rollout.spec.serving.builtin
    # Once made, the budget stays: with one replica it allows every eviction.
    budget = (disruption_budget(rollout),) if builtin and builtin.replicas > 1 else ()
    servers = deployment(rollout, version, profile=observed.profile, storage=observed.storage, settings=settings)
    return Plan(apply=(service(rollout), *budget, servers))
