"""Where a rollout goes from here: which version serves, which is on its way in, and how far it is. A function of what is, never of what happened."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from trimtab_operator import names
from trimtab_operator.api.times import format_time
from trimtab_operator.api.v1alpha1.model_rollout import (
    MAX_HISTORY,
    CanaryStatus,
    Passage,
    Rollback,
    Routing,
    VersionWeight,
)
from trimtab_operator.api.v1alpha1.reasons import Reason
from trimtab_operator.plan.model_rollout import actions, steps
from trimtab_operator.plan.model_rollout.canary import Way, move
from trimtab_operator.plan.model_rollout.readiness import Reached
from trimtab_operator.state import EventNote, ObservedRollout, Problem, RolloutCourse, fit_on_one_server


@dataclass(frozen=True, slots=True)
class Pass:
    """What every decision of a pass looks at."""

    observed: ObservedRollout
    problems: Sequence[Problem]
    readiness: Reached
    complete: bool
    """Every server is one of the planned Deployment."""
    now: datetime

    @property
    def wanted(self) -> int:
        """The version that the spec asks for."""
        return self.observed.rollout.spec.version

    def name(self, version: int) -> str:
        """Of the ModelVersion."""
        return names.model_version(self.observed.rollout.spec.model_name, version)


def decide(now: Pass) -> RolloutCourse:
    """The course after this pass."""
    status = now.observed.rollout.status
    stored = RolloutCourse(
        stable=status.stable_version,
        canary=status.canary,
        step=status.current_step_index or 0,
        routing=status.routing,
        confirmed=now.readiness.confirmed,
        analysis=tuple(status.analysis),
        history=tuple(status.history),
        action=status.action,
    )
    if now.observed.stable is None:
        return _ignoring_actions(_first(now, stored), now)
    if now.wanted == stored.stable:
        return _ignoring_actions(_back_on_stable(now, stored, f"spec.version is {now.wanted} again."), now)
    if now.problems:
        return _ignoring_actions(_back_on_stable(now, stored, now.problems[0].message), now)
    return _with_canary(now, _superseding(now, stored))


def _first(now: Pass, stored: RolloutCourse) -> RolloutCourse:
    """Nothing serves yet, or what served is gone: the wanted version takes all of the traffic as soon as it is there."""
    stored = replace(stored, stable=None, canary=None, step=0)
    if now.problems:
        return stored
    name = now.name(now.wanted)
    if now.complete and now.readiness.loaded(name):
        begun = now.observed.rollout.metadata.creation_timestamp or format_time(now.now)
        return _promoted(stored, now, begun)
    waits = now.readiness.missing(name) if now.complete else None
    return replace(stored, failure=now.readiness.refusal(name), waits=waits)


def _back_on_stable(now: Pass, stored: RolloutCourse, why: str) -> RolloutCourse:
    canary = stored.canary
    history = stored.history
    if canary is not None and canary.rollback is None:
        history = remembered(history, canary.version, "Superseded", canary.started_at, why, now=now.now)
    routing = routed(stored.routing, [(stored.stable or 0, steps.FULL)])
    return replace(stored, canary=None, step=0, analysis=(), routing=routing, history=history)


def _superseding(now: Pass, stored: RolloutCourse) -> RolloutCourse:
    """The canary of the wanted version: the one that is under way, or a new one."""
    spec, canary, time = now.observed.rollout.spec, stored.canary, format_time(now.now)
    wanted_steps = spec.strategy.canary.steps
    digest = steps.digest(wanted_steps)
    if canary is not None and canary.version == now.wanted:
        if canary.rollback is not None or canary.steps_digest == digest:
            return stored
        begun = actions.restarted(canary).model_copy(update={"steps_digest": digest})
        return replace(stored, canary=begun, step=0, analysis=())
    history = stored.history
    if canary is not None and canary.rollback is None:
        why = f"spec.version is {now.wanted} now."
        history = remembered(history, canary.version, "Superseded", canary.started_at, why, now=now.now)
    returns = _returns(now, stored)
    what = "returns without steps, by rollbackWindow" if returns else f"follows {len(wanted_steps)} steps"
    note = EventNote("Normal", Reason.CANARY_STARTED, f"Version {now.wanted} comes after {stored.stable}: it {what}.")
    return replace(
        stored,
        canary=CanaryStatus(version=now.wanted, started_at=time, steps_digest=digest),
        step=len(wanted_steps) if returns else 0,
        analysis=(),
        history=history,
        notes=(note,),
    )


def _returns(now: Pass, stored: RolloutCourse) -> bool:
    """Whether the wanted version was stable not long ago."""
    window = now.observed.rollout.spec.rollback_window
    promoted = [passage.version for passage in stored.history if passage.outcome == "Promoted"]
    earlier = [version for version in dict.fromkeys(promoted) if version != stored.stable]
    return window is not None and now.wanted in earlier[: window.revisions]


def _with_canary(now: Pass, course: RolloutCourse) -> RolloutCourse:
    course = _by_spec(now, course)
    course = _by_action(now, course)
    canary = course.canary
    if canary is None or course.stable is None:
        return course
    if canary.rollback is not None:
        return _rolled_back(now, course, canary, canary.rollback)
    stable, wanted = now.observed.stable, now.observed.wanted
    serving = now.observed.rollout.spec.serving
    share_servers = serving.servers is not None and serving.gateway is None
    if share_servers and stable is not None and wanted is not None and not fit_on_one_server(stable, wanted):
        return _replacing(now, course, canary)
    way = move(now.observed, course, canary, now.readiness, now=now.now)
    return _along(now, course, way)


def _by_spec(now: Pass, course: RolloutCourse) -> RolloutCourse:
    """`spec.abort`, and its end."""
    canary, abort = course.canary, now.observed.rollout.spec.abort
    if canary is None:
        return course
    if abort and canary.rollback is None:
        time = format_time(now.now)
        rollback = Rollback(at=time, reason=Reason.ABORTED.value, message="spec.abort is true.", by_spec=True)
        return replace(course, canary=canary.model_copy(update={"rollback": rollback}))
    if not abort and canary.rollback is not None and canary.rollback.by_spec:
        again = actions.restarted(canary).model_copy(update={"started_at": format_time(now.now)})
        return replace(course, canary=again, step=0, analysis=())
    return course


def _by_action(now: Pass, course: RolloutCourse) -> RolloutCourse:
    rollout = now.observed.rollout
    value = actions.asked(rollout)
    if not value:
        return course
    count = len(rollout.spec.strategy.canary.steps)
    acted = actions.act(value, course.canary, step=course.step, steps=count, now=now.now)
    if isinstance(acted, str):
        return _recorded(course, value, acted, now)
    analysis = tuple(each for each in course.analysis if not acted.fresh_analysis or each.step < acted.step)
    done = replace(course, canary=acted.canary, step=acted.step, analysis=analysis)
    return _recorded(done, value, acted.result, now)


def _ignoring_actions(course: RolloutCourse, now: Pass) -> RolloutCourse:
    value = actions.asked(now.observed.rollout)
    said = actions.act(value, None, step=0, steps=0, now=now.now) if value else ""
    return _recorded(course, value, str(said), now) if value else course


def _recorded(course: RolloutCourse, value: str, result: str, now: Pass) -> RolloutCourse:
    ignored = result.startswith("Ignored")
    note = EventNote(
        "Warning" if ignored else "Normal",
        Reason.ACTION_IGNORED if ignored else Reason.ACTION_DONE,
        f"Action {value.split(maxsplit=1)[0]}: {result}",
    )
    return replace(course, action=actions.handled(value, result, now=now.now), notes=(*course.notes, note))


def _rolled_back(now: Pass, course: RolloutCourse, canary: CanaryStatus, rollback: Rollback) -> RolloutCourse:
    """All traffic is on the stable version, and stays there."""
    history = course.history
    stored = now.observed.rollout.status.canary
    if stored is None or stored.version != canary.version or stored.rollback is None:
        outcome = "Aborted" if rollback.reason == Reason.ABORTED else "RolledBack"
        history = remembered(history, canary.version, outcome, canary.started_at, rollback.message, now=now.now)
    routing = routed(course.routing, [(course.stable or 0, steps.FULL)])
    message = f"Version {canary.version} is rolled back: {rollback.message}"
    failure = Problem(Reason(rollback.reason), message)
    return replace(course, routing=routing, history=history, failure=failure)


def _replacing(now: Pass, course: RolloutCourse, canary: CanaryStatus) -> RolloutCourse:
    """Another base model needs other servers: the Deployment brings them, and nothing can be weighed."""
    name = now.name(canary.version)
    if now.complete and now.readiness.loaded(name):
        return _promoted(course, now, canary.started_at)
    waits = Problem(
        Reason.PROGRESSING, f"New servers start for version {canary.version}, which has another base model."
    )
    return replace(course, waits=waits, failure=now.readiness.refusal(name))


def _along(now: Pass, course: RolloutCourse, way: Way) -> RolloutCourse:
    """The course with what the canary's step came to."""
    course = replace(course, canary=way.canary, step=way.step, analysis=way.analysis, look_again=way.look_again)
    if way.canary.rollback is not None:
        return _rolled_back(now, course, way.canary, way.canary.rollback)
    if way.promoted:
        return _promoted(course, now, way.canary.started_at)
    stable, version = course.stable or 0, way.canary.version
    routing = routed(course.routing, [(stable, steps.FULL - way.weight), (version, way.weight)])
    notes = course.notes
    if way.weight != _weight(course.routing, version) and way.weight:
        text = f"Version {version} answers {way.weight} % of the requests, version {stable} the rest."
        notes = (*notes, EventNote("Normal", Reason.WEIGHT_CHANGED, text))
    return replace(course, routing=routing, waits=way.waits, failure=way.failure, notes=notes)


def _promoted(course: RolloutCourse, now: Pass, started_at: str) -> RolloutCourse:
    before = f" after {course.stable}" if course.stable is not None else ""
    history = remembered(course.history, now.wanted, "Promoted", started_at, f"It serves{before}.", now=now.now)
    routing = routed(course.routing, [(now.wanted, steps.FULL)])
    return replace(
        course, stable=now.wanted, canary=None, step=0, routing=routing, history=history, waits=None, look_again=None
    )


def routed(before: Routing, table: Sequence[tuple[int, int]]) -> Routing:
    """The routing with that table; a new revision where it differs."""
    versions = [VersionWeight(version=version, weight=weight) for version, weight in table]
    return before if before.versions == versions else Routing(revision=before.revision + 1, versions=versions)


def remembered(
    history: Sequence[Passage], version: int, outcome: str, started_at: str, why: str, *, now: datetime
) -> tuple[Passage, ...]:
    """The history with one passage more, newest first."""
    passage = Passage(
        version=version, outcome=outcome, started_at=started_at, ended_at=format_time(now), message=why[:512]
    )
    return (passage, *history)[:MAX_HISTORY]


def _weight(routing: Routing, version: int) -> int:
    return next((each.weight for each in routing.versions if each.version == version), 0)
