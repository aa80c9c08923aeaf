"""The status of a ModelVersion: whether its bytes are proved, whether it may be promoted, who uses it."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from trimtab_operator.api.v1alpha1 import ModelRollout
from trimtab_operator.api.v1alpha1.model_version import ModelVersionSpec, ModelVersionStatus
from trimtab_operator.api.v1alpha1.reasons import Reason
from trimtab_operator.settings import Settings
from trimtab_operator.state import EventNote, ObservedVersion, Outcome, Plan, Problem
from trimtab_operator.status.conditions import Fact, fact, merge
from trimtab_operator.status.wire import to_wire

MAX_ROLLOUTS = 64


def compute_status(
    observed: ObservedVersion, problems: Sequence[Problem], plan: Plan, *, settings: Settings, now: datetime
) -> Outcome:
    """What is true now."""
    del plan, settings
    version, stored = observed.version, observed.version.status
    generation = version.metadata.generation
    said = [*_own(version.spec), *_trio(problems)]
    status = ModelVersionStatus(
        observed_generation=generation,
        conditions=merge(stored.conditions, said, generation=generation, now=now),
        rollouts=sorted(rollout.metadata.name for rollout in observed.rollouts if _uses(rollout, version.spec))[
            :MAX_ROLLOUTS
        ],
    )
    return Outcome(to_wire(status), tuple(_events(stored, status)))


def verified(spec: ModelVersionSpec) -> Fact:
    """Whether somebody has read every byte back. Servers verify again before they load, in either case."""
    if spec.verified_at and spec.source is not None:
        message = f"The trainer read every byte back from the store and compared digests at {spec.verified_at}."
        return fact("Verified", holds=True, reason=Reason.BYTES_VERIFIED, message=message)
    message = "An imported version: its bytes are verified against manifestSha256 by every server that loads it."
    return fact("Verified", holds=None, reason=Reason.NOT_VERIFIED, message=message)


def promotable(spec: ModelVersionSpec) -> Fact:
    """Whether the gates were passed."""
    failed = [str(gate.get("metric", "unnamed")) for gate in spec.gates if gate.get("passed") is not True]
    if failed:
        message = f"These gates were not passed: {', '.join(failed)}. Train a better version; this one stays as it is."
        return fact("Promotable", holds=False, reason=Reason.NOT_PROMOTABLE, message=message)
    message = f"All {len(spec.gates)} gates were passed." if spec.gates else "No gates were set."
    return fact("Promotable", holds=True, reason=Reason.PROMOTABLE, message=message)


def _own(spec: ModelVersionSpec) -> tuple[Fact, Fact]:
    return verified(spec), promotable(spec)


def _trio(problems: Sequence[Problem]) -> list[Fact]:
    """For GitOps. A version does not move: it is there, or something that it needs is missing."""
    if problems:
        reason, message = problems[0].reason, " ".join(problem.message for problem in problems)
        stuck = f"The platform must act: {message}" if problems[0].who == "platform" else message
    else:
        reason, message = Reason.AVAILABLE, "The version may be served."
        stuck = "Nobody has to do anything."
    return [
        fact("Ready", holds=not problems, reason=reason, message=message),
        fact("Reconciling", holds=False, reason=reason, message=message),
        fact("Stalled", holds=bool(problems), reason=reason, message=stuck),
    ]


def _uses(rollout: ModelRollout, spec: ModelVersionSpec) -> bool:
    """Wanted, serving, or on its way in or out."""
    if rollout.spec.model_name != spec.model_name:
        return False
    status = rollout.status
    used = {rollout.spec.version, status.stable_version, status.canary_version}
    return spec.version in used | {weight.version for weight in status.weights}


def _events(before: ModelVersionStatus, after: ModelVersionStatus) -> Iterator[EventNote]:
    old, new = before.condition("Ready"), after.condition("Ready")
    if new is None or (old is not None and old.status == new.status):
        return
    if new.status == "True":
        yield EventNote("Normal", Reason(new.reason), new.message)
    else:
        yield EventNote("Warning", Reason(new.reason), new.message)
