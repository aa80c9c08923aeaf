"""The status of a StorageProfile."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from trimtab_operator.api.v1alpha1.reasons import Reason
from trimtab_operator.api.v1alpha1.storage_profile import StorageProfileStatus
from trimtab_operator.settings import Settings
from trimtab_operator.state import EventNote, ObservedStorage, Outcome, Plan, Problem
from trimtab_operator.status.conditions import Fact, fact, merge
from trimtab_operator.status.storage_profile.probe import conformant, newest_probe
from trimtab_operator.status.wire import to_wire


def compute_status(
    observed: ObservedStorage, problems: Sequence[Problem], plan: Plan, *, settings: Settings, now: datetime
) -> Outcome:
    """Ready before the first probe too: it takes a job to make one."""
    del plan, settings  # a profile has no children
    profile = observed.profile
    probe = newest_probe(observed)
    generation = profile.metadata.generation
    status = StorageProfileStatus(
        observed_generation=generation,
        probe=probe,
        conditions=merge(
            profile.status.conditions, _facts(problems, conformant(probe)), generation=generation, now=now
        ),
    )
    return Outcome(status=to_wire(status), events=tuple(_events(profile.status, status)))


def _facts(problems: Sequence[Problem], store: Fact) -> list[Fact]:
    fits = not problems
    message = " ".join(problem.message for problem in problems) or "The spec fits."
    accepted = fact("Accepted", holds=fits, reason=problems[0].reason if problems else Reason.ACCEPTED, message=message)
    verdict = store if fits else accepted
    ready = fits and store.status != "False"
    return [
        accepted,
        store,
        fact("Ready", holds=ready, reason=verdict.reason, message=verdict.message),
        fact("Reconciling", holds=False, reason=verdict.reason, message="Nothing is on its way."),
        fact(
            "Stalled",
            holds=not ready,
            reason=verdict.reason,
            message="Nobody has to do anything." if ready else verdict.message,
        ),
    ]


def _events(before: StorageProfileStatus, after: StorageProfileStatus) -> Iterator[EventNote]:
    """A refused spec, and what a probe found."""
    for kind in ("Accepted", "Conformant"):
        old, new = before.condition(kind), after.condition(kind)
        if new is None or new.status == "Unknown" or (old is not None and old.status == new.status):
            continue
        if new.status == "False":
            yield EventNote("Warning", Reason(new.reason), new.message, "Check")
        elif kind == "Conformant":
            yield EventNote("Normal", Reason(new.reason), new.message, "Check")
