"""A canary's way through its steps."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from trimtab_operator import names
from trimtab_operator.api.times import format_time, parse_duration, parse_time
from trimtab_operator.api.v1alpha1.analysis import Analysis, MetricResult, Pause, Step
from trimtab_operator.api.v1alpha1.model_rollout import CanaryStatus, Rollback
from trimtab_operator.api.v1alpha1.reasons import Reason
from trimtab_operator.expressions import Phase
from trimtab_operator.plan.model_rollout import analysis as analyses
from trimtab_operator.plan.model_rollout import steps as described
from trimtab_operator.plan.model_rollout.readiness import Reached
from trimtab_operator.state import ObservedRollout, Problem, RolloutCourse

_WAITS = {Phase.INCONCLUSIVE: Reason.ANALYSIS_INCONCLUSIVE, Phase.ERROR: Reason.ANALYSIS_ERROR}


@dataclass(frozen=True, slots=True)
class Way:
    """How far a canary has come."""

    canary: CanaryStatus
    step: int
    weight: int
    analysis: tuple[MetricResult, ...]
    waits: Problem | None = None
    failure: Problem | None = None
    look_again: timedelta | None = None
    promoted: bool = False


@dataclass(frozen=True, slots=True)
class _Walk:
    """What a step looks at."""

    observed: ObservedRollout
    steps: tuple[Step, ...]
    readiness: Reached
    now: datetime
    stored_weight: int
    """The share that the servers are told to give the canary; -1 before they have heard of it."""

    def is_settled(self, weight: int) -> bool:
        """Every server gives the canary this share."""
        return weight == self.stored_weight and self.readiness.confirmed


def move(
    observed: ObservedRollout, course: RolloutCourse, canary: CanaryStatus, readiness: Reached, *, now: datetime
) -> Way:
    """From where the canary stands to where it has to wait."""
    rollout = observed.rollout
    name = names.model_version(rollout.spec.model_name, canary.version)
    told = next((each.weight for each in course.routing.versions if each.version == canary.version), -1)
    walk = _Walk(observed, tuple(rollout.spec.strategy.canary.steps), readiness, now, told)
    way = Way(canary, course.step, 0, course.analysis)
    if not canary.loaded:
        if told < 0 or not readiness.loaded(name):
            # Once loaded everywhere it counts as loaded: a server that starts anew lets the stable one answer meanwhile.
            return replace(way, failure=readiness.refusal(name), waits=readiness.missing(name))
        begun = canary.model_copy(update={"loaded": True, "step_started_at": format_time(now)})
        way = replace(way, canary=begun)
    for _ in range(len(walk.steps) + 1):
        way, goes_on = _at_step(way, walk)
        if not goes_on:
            break
        begun = way.canary.model_copy(update={"step_started_at": format_time(now)})
        way = replace(way, canary=begun, step=way.step + 1)
    return way


def _at_step(way: Way, walk: _Walk) -> tuple[Way, bool]:
    """What the current step says, and whether it is over."""
    weight = described.weight_at(walk.steps, way.step)
    way = replace(way, weight=weight)
    settled = walk.is_settled(weight)
    if way.canary.held or walk.observed.rollout.spec.paused:
        return _waiting(way, walk, Reason.PAUSED, "paused; resume it to go on"), False
    if way.canary.waits_for:
        return _undecided(way, walk), False
    if way.step >= len(walk.steps):
        return replace(_waiting(way, walk, Reason.PROGRESSING, ""), promoted=settled), False
    step = walk.steps[way.step]
    if step.analysis is not None:
        return _analysed(way, step.analysis, walk)
    if step.pause is not None:
        return _paused(way, step.pause, walk)
    return _waiting(way, walk, Reason.PROGRESSING, "" if settled else "servers take the weight over"), settled


def _paused(way: Way, pause: Pause, walk: _Walk) -> tuple[Way, bool]:
    if pause.duration is None:
        return _waiting(way, walk, Reason.PAUSED, "promote it to go on, or abort it"), False
    left = parse_time(way.canary.step_started_at) + parse_duration(pause.duration) - walk.now
    return replace(_waiting(way, walk, Reason.PAUSED, ""), look_again=left), left <= timedelta(0)


def _analysed(way: Way, analysis: Analysis, walk: _Walk) -> tuple[Way, bool]:
    results = analyses.record(analysis, way.step, way.analysis, walk.observed.samples, now=walk.now)
    way = replace(way, analysis=results)
    phase = analyses.verdict(results, way.step)
    if phase is Phase.SUCCESSFUL:
        return way, True
    why = analyses.explain(analysis, results, way.step, phase)
    if phase is Phase.FAILED:
        rollback = Rollback(at=format_time(walk.now), reason=Reason.ANALYSIS_FAILED.value, message=why[:1024])
        return replace(way, canary=way.canary.model_copy(update={"rollback": rollback})), False
    if phase in _WAITS:
        way = replace(way, canary=way.canary.model_copy(update={"waits_for": _WAITS[phase].value}))
        return _undecided(way, walk), False
    current = [result for result in results if result.step == way.step and result.phase == Phase.RUNNING]
    said = next((result.message for result in current if result.message), "")
    return replace(_waiting(way, walk, Reason.ANALYZING, said), look_again=_next_look(way, analysis, walk)), False


def _next_look(way: Way, analysis: Analysis, walk: _Walk) -> timedelta:
    results = {result.name: result for result in way.analysis if result.step == way.step}
    started = parse_time(way.canary.step_started_at)
    running = [metric for metric in analysis.metrics if results[metric.name].phase == Phase.RUNNING]
    first = min(analyses.due_at(metric, results[metric.name], started) for metric in running)
    return max(first - walk.now, analyses.WAIT)


def _undecided(way: Way, walk: _Walk) -> Way:
    reason, step = Reason(way.canary.waits_for), walk.steps[way.step] if way.step < len(walk.steps) else None
    phase = next(phase for phase, each in _WAITS.items() if each is reason)
    why = analyses.explain(step.analysis, way.analysis, way.step, phase) if step and step.analysis else ""
    return _waiting(way, walk, reason, f"{why} Decide: promote, retry or abort it".strip())


def _waiting(way: Way, walk: _Walk, reason: Reason, why: str) -> Way:
    at = f"step {way.step} of {len(walk.steps)} ({described.describe(walk.steps, way.step)})"
    text = f"Version {way.canary.version} answers {way.weight} %, {at}{': ' if why else ''}{why.rstrip('.')}."
    return replace(way, waits=Problem(reason, text), look_again=None)
