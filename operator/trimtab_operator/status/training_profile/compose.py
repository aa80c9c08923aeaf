"""The status of a TrainingProfile."""

from collections.abc import Sequence
from datetime import datetime

from trimtab_operator.api.common import StatusModel
from trimtab_operator.api.v1alpha1.reasons import Reason
from trimtab_operator.settings import Settings
from trimtab_operator.state import EventNote, ObservedProfile, Outcome, Plan, Problem
from trimtab_operator.status.conditions import fact, merge
from trimtab_operator.status.wire import to_wire


def compute_status(
    observed: ObservedProfile, problems: Sequence[Problem], plan: Plan, *, settings: Settings, now: datetime
) -> Outcome:
    """A profile is ready when pods can be made of it."""
    del plan, settings  # a profile has no children
    profile = observed.profile
    fits, reason = not problems, problems[0].reason if problems else Reason.ACCEPTED
    message = " ".join(problem.message for problem in problems) or "Pods can be made of this profile."
    facts = [
        fact("Accepted", holds=fits, reason=reason, message=message),
        fact("Ready", holds=fits, reason=reason, message=message),
        fact("Reconciling", holds=False, reason=reason, message="Nothing is on its way."),
        fact("Stalled", holds=not fits, reason=reason, message="Nobody has to do anything." if fits else message),
    ]
    generation = profile.metadata.generation
    status = StatusModel(
        observed_generation=generation,
        conditions=merge(profile.status.conditions, facts, generation=generation, now=now),
    )
    old = profile.status.condition("Accepted")
    changed = bool(problems) and (old is None or old.reason != reason)
    return Outcome(status=to_wire(status), events=(EventNote("Warning", reason, message, "Check"),) if changed else ())
