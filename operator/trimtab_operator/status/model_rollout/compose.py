"""The status of a ModelRollout."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from trimtab_operator.api.v1alpha1.model_rollout import ModelRolloutStatus, VersionWeight
from trimtab_operator.api.v1alpha1.reasons import Reason
from trimtab_operator.inference import InferenceService
from trimtab_operator.settings import Settings
from trimtab_operator.state import EventNote, ObservedRollout, Outcome, Plan, Problem, RolloutCourse
from trimtab_operator.status.conditions import Fact, fact, merge
from trimtab_operator.status.model_rollout import servers as parsed
from trimtab_operator.status.model_rollout.situation import Situation, assess
from trimtab_operator.status.wire import to_wire


def compute_status(
    observed: ObservedRollout, problems: Sequence[Problem], plan: Plan, *, settings: Settings, now: datetime
) -> Outcome:
    """What is true now, and the Events of what has changed."""
    del settings  # every kind's status has it
    rollout = observed.rollout
    servers = parsed.observe(observed, plan)
    course = plan.rollout or _stored(rollout.status)
    situation = assess(observed, problems, servers, course)
    canary = course.canary
    status = ModelRolloutStatus(
        observed_generation=rollout.metadata.generation,
        state=situation.state,
        stable_version=course.stable,
        canary_version=canary.version if canary and canary.rollback is None else None,
        current_step_index=course.step if canary else None,
        canary=canary,
        weights=_weights(rollout.status, course),
        routing=course.routing,
        analysis=list(course.analysis),
        history=list(course.history),
        action=course.action,
        url=url(observed),
        conditions=merge(
            rollout.status.conditions,
            _facts(observed, problems, servers, situation),
            generation=rollout.metadata.generation,
            now=now,
        ),
    )
    return Outcome(status=to_wire(status), events=(*course.notes, *_events(rollout.status, status, situation)))


def _stored(status: ModelRolloutStatus) -> RolloutCourse:
    """Nothing was decided: everything stays."""
    return RolloutCourse(
        stable=status.stable_version,
        canary=status.canary,
        step=status.current_step_index or 0,
        routing=status.routing,
        confirmed=False,
        analysis=tuple(status.analysis),
        history=tuple(status.history),
        action=status.action,
    )


def _weights(before: ModelRolloutStatus, course: RolloutCourse) -> list[VersionWeight]:
    """What the servers confirmed. The first version serves as soon as it is promoted."""
    if course.confirmed and before.routing.versions:
        return before.routing.versions
    if before.stable_version is None and course.stable is not None:
        return course.routing.versions
    return before.weights


def url(observed: ObservedRollout) -> str:
    """Address of the Service inside the cluster, of the InferenceService, or the host name of the HTTPRoute."""
    if observed.inference is not None:
        return InferenceService.parse(observed.inference.body).url if observed.inference.body else ""
    gateway = observed.rollout.spec.serving.gateway
    if observed.deployment is None or gateway is not None:
        return next(iter(gateway.hostnames), "") if gateway else ""
    metadata = observed.rollout.metadata
    return f"http://{metadata.name}.{metadata.namespace}.svc"


def _facts(
    observed: ObservedRollout, problems: Sequence[Problem], servers: parsed.Servers, situation: Situation
) -> list[Fact]:
    return [
        _accepted(problems),
        _available(observed, servers, situation),
        fact("Ready", holds=situation.state == "Stable", reason=situation.reason, message=situation.message),
        fact("Reconciling", holds=situation.is_moving, reason=situation.reason, message=situation.message),
        fact(
            "Stalled",
            holds=situation.is_stuck,
            reason=situation.reason,
            message=situation.message if situation.is_stuck else "Nobody has to do anything.",
        ),
    ]


def _accepted(problems: Sequence[Problem]) -> Fact:
    if not problems:
        return fact(
            "Accepted", holds=True, reason=Reason.ACCEPTED, message="The version may serve and its profiles exist."
        )
    message = " ".join(problem.message for problem in problems)
    return fact("Accepted", holds=False, reason=problems[0].reason, message=message)


def _available(observed: ObservedRollout, servers: parsed.Servers, situation: Situation) -> Fact:
    """Whether requests are answered, by whichever version."""
    if servers.available:
        who = f"{servers.available} of {servers.replicas} servers answer"
        if observed.inference is not None:
            who = f"InferenceService {observed.inference.name} answers"
        where = f" at {address}" if (address := url(observed)) else ""
        message = f"{who}{where}."
        return fact("Available", holds=True, reason=Reason.AVAILABLE, message=message)
    return fact("Available", holds=False, reason=situation.reason, message=situation.message)


def _events(before: ModelRolloutStatus, after: ModelRolloutStatus, situation: Situation) -> Iterator[EventNote]:
    """One for each turn of the story."""
    old = before.condition("Ready")
    if after.stable_version != before.stable_version and situation.state == "Stable":
        yield EventNote("Normal", Reason.STABLE, situation.message, "Promote")
    elif old is None or (old.status, old.reason) != _ready(after):
        usual = situation.state in ("Progressing", "Paused", "Stable", "Pending")
        yield EventNote("Normal" if usual else "Warning", situation.reason, situation.message, "Roll")


def _ready(status: ModelRolloutStatus) -> tuple[str, str]:
    new = status.condition("Ready")
    return (new.status, new.reason) if new else ("", "")
