"""Whole models on vLLM: servers of its own for each version that takes part, and a route with their weights.

As everywhere, what exists follows the stored status: the route has the stored weights, and what it does not name any more goes once the
Gateways have heard of that. What is optional in a cluster, the route, is read in every pass and never waited for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from trimtab_operator import names
from trimtab_operator.api.v1alpha1.reasons import Reason
from trimtab_operator.gateway_api import Route
from trimtab_operator.plan.model_rollout import steps
from trimtab_operator.plan.model_rollout.analysis import due
from trimtab_operator.plan.model_rollout.analysis_job import jobs
from trimtab_operator.plan.model_rollout.analysis_job import obsolete as obsolete_jobs
from trimtab_operator.plan.model_rollout.config_map import config_map
from trimtab_operator.plan.model_rollout.course import Pass, decide
from trimtab_operator.plan.model_rollout.deployment import deployment
from trimtab_operator.plan.model_rollout.disruption_budget import disruption_budgets
from trimtab_operator.plan.model_rollout.http_route import http_route
from trimtab_operator.plan.model_rollout.kserve import look_again
from trimtab_operator.plan.model_rollout.readiness import Readiness, is_complete, read, report_seconds
from trimtab_operator.plan.model_rollout.server_config import config_key, server_config
from trimtab_operator.plan.model_rollout.service import service
from trimtab_operator.settings import Settings
from trimtab_operator.state import (
    Manifest,
    ObjectRef,
    ObservedRollout,
    Plan,
    Problem,
    RolloutCourse,
    ServerSetting,
)
from trimtab_trainer.contract.run_config import ServerConfig


@dataclass(frozen=True, slots=True)
class Part:
    """A version that takes part: its servers as they should be, and what they have reached."""

    name: str
    """ModelVersion."""
    setting: ServerSetting
    config: ServerConfig
    deployment: Manifest
    readiness: Readiness
    complete: bool
    """Every server is ready, none is of an older template."""


@dataclass(frozen=True, slots=True)
class Reached:
    """What servers and Gateways say."""

    parts: Mapping[str, Part]
    confirmed: bool
    """The Gateways follow the stored weights."""

    def loaded(self, name: str) -> bool:
        """Whether all servers of a version can answer."""
        part = self.parts.get(name)
        return part is not None and part.complete and part.readiness.loaded(name)

    def refusal(self, name: str) -> Problem | None:
        """Why a server does not load its version."""
        return self.parts[name].readiness.refusal(name) if name in self.parts else None

    def missing(self, name: str) -> Problem:
        """What is waited for while it is not loaded everywhere."""
        if name in self.parts and not self.parts[name].readiness.loaded(name):
            return self.parts[name].readiness.missing(name)
        return Problem(Reason.PROGRESSING, f"The servers of {name} start.")


def make_plan(observed: ObservedRollout, problems: Sequence[Problem], *, settings: Settings, now: datetime) -> Plan:
    """The servers and the route that follow from the stored status, and the course from here."""
    rollout, route = observed.rollout, _route(observed)
    parts = _parts(observed, problems, settings=settings, now=now)
    confirmed = route is not None and route.is_followed and route.weights == _by_service(observed, stored(observed))
    reached = Reached(parts, confirmed=confirmed)
    name = names.model_version(rollout.spec.model_name, rollout.spec.version)
    weights = _weights(observed, problems, route, wanted_answers=reached.loaded(name))
    started = name in parts and parts[name].complete
    course = decide(Pass(observed, problems, reached, complete=started and confirmed, now=now))
    course = _with_route(course, route, reached)
    asked = () if problems else due(observed, now=now)
    setting = next((part.setting for part in parts.values()), None)
    return Plan(
        apply=_children(observed, parts, weights, settings=settings),
        create=jobs(observed, asked, setting, settings=settings) if setting else (),
        delete=(*obsolete_jobs(observed, asked), *_obsolete(observed, parts, route)),
        configs=_told(parts),
        rollout=course,
        requeue_after=look_again(observed, course),
        report_seconds=report_seconds(course),
    )


def stored(observed: ObservedRollout) -> dict[int, int]:
    """Weights by the stored status; the first version has all of them."""
    if observed.stable is None:
        return {observed.rollout.spec.version: steps.FULL}
    routed = {each.version: each.weight for each in observed.rollout.status.routing.versions}
    return routed or {observed.stable.spec.version: steps.FULL}


def _parts(
    observed: ObservedRollout, problems: Sequence[Problem], *, settings: Settings, now: datetime
) -> dict[str, Part]:
    """Of the stored versions those that can be made: a canary that is wanted no more is on its way out."""
    taking_part = () if observed.stable is None and problems else stored(observed)
    found = [each for each in (observed.stable_setting, observed.wanted_setting) if each is not None]
    chosen = {each.version.spec.version: each for each in found if each.version.spec.version in taking_part}
    parts = (_part(observed, each, settings=settings, now=now) for each in chosen.values())
    return {part.name: part for part in parts}


def _part(observed: ObservedRollout, setting: ServerSetting, *, settings: Settings, now: datetime) -> Part:
    rollout, version = observed.rollout, setting.version
    config = server_config(rollout, setting, [(version, steps.FULL)], revision=0)
    planned = deployment(rollout, setting, config, settings=settings)
    label = str(version.spec.version)
    own = tuple(pod for pod in observed.pods if (pod["metadata"].get("labels") or {}).get(names.VERSION_LABEL) == label)
    return Part(
        name=version.metadata.name,
        setting=setting,
        config=config,
        deployment=planned,
        readiness=read(replace(observed, pods=own), {config_key(config): config}, now=now),
        complete=is_complete(_live(observed, planned["metadata"]["name"]), planned),
    )


def _weights(
    observed: ObservedRollout, problems: Sequence[Problem], route: Route | None, *, wanted_answers: bool
) -> dict[int, int]:
    """What the route shall say; empty: it stays as it is, or cannot be written."""
    up = _that_answer(observed)
    if observed.route is None or observed.route.problem is not None:
        return {}
    weights = stored(observed)
    if observed.stable is None:
        # What was stable is gone as an object, and answers: it goes on until the wanted version can.
        others = up & set(route.weights if route else ()) - set(_by_service(observed, weights))
        return {} if problems or (others and not wanted_answers) else weights
    stable = observed.stable.spec.version
    answers = {version for version in weights if names.server(observed.rollout.metadata.name, version) in up}
    if stable in answers and any(weight and version not in answers for version, weight in weights.items()):
        # Requests are not sent to where nobody is.
        return {version: steps.FULL if version == stable else 0 for version in weights}
    return weights


def _with_route(course: RolloutCourse, route: Route | None, reached: Reached) -> RolloutCourse:
    """What the Gateways say, where nothing else is in the way."""
    if route is None or course.failure is not None:
        return course
    if route.trouble:
        message = f"HTTPRoute '{route.name}' is not taken: {route.trouble}"[:900]
        return replace(course, failure=Problem(Reason.ROUTE_NOT_ACCEPTED, message, who="platform"))
    if course.waits is None and not reached.confirmed:
        message = f"HTTPRoute '{route.name}' waits for its Gateways to follow it."
        return replace(course, waits=Problem(Reason.PROGRESSING, message))
    return course


def _children(
    observed: ObservedRollout, parts: Mapping[str, Part], weights: Mapping[int, int], *, settings: Settings
) -> tuple[Manifest, ...]:
    """Servers before the route that names them."""
    rollout = observed.rollout
    if not parts:
        return ()
    serving = rollout.spec.serving
    route = (http_route(rollout, serving.gateway, weights),) if serving.gateway and weights else ()
    return (
        config_map(rollout, _told(parts), settings=settings),
        *disruption_budgets(rollout),
        *(service(rollout, part.setting.version.spec.version) for part in parts.values()),
        *(part.deployment for part in parts.values()),
        *route,
    )


def _obsolete(observed: ObservedRollout, parts: Mapping[str, Part], route: Route | None) -> tuple[ObjectRef, ...]:
    """Servers that take part no more: nobody sends them requests, and the Gateways know it; then their Services."""
    kept = {*_by_service(observed, stored(observed)), *(part.deployment["metadata"]["name"] for part in parts.values())}
    named = route.weights if route else {}
    followed = route is not None and route.is_followed
    up = _that_answer(observed)
    there = {each["metadata"]["name"] for each in observed.deployments}
    servers = [
        each
        for each in observed.deployments
        if (name := each["metadata"]["name"]) not in kept and name not in named and (followed or name not in up)
    ]
    services = [
        each
        for each in observed.services
        if (name := each["metadata"]["name"]) not in kept and name not in named and name not in there
    ]
    return tuple(_ref(each) for each in (*servers, *services) if not each["metadata"].get("deletionTimestamp"))


def _told(parts: Mapping[str, Part]) -> dict[str, ServerConfig]:
    return {config_key(part.config): part.config for part in parts.values()}


def _by_service(observed: ObservedRollout, weights: Mapping[int, int]) -> dict[str, int]:
    return {names.server(observed.rollout.metadata.name, version): weight for version, weight in weights.items()}


def _that_answer(observed: ObservedRollout) -> set[str]:
    """Deployments, and so Services, with a server that is ready."""
    ready = (each for each in observed.deployments if int((each.get("status") or {}).get("availableReplicas", 0)))
    return {each["metadata"]["name"] for each in ready}


def _route(observed: ObservedRollout) -> Route | None:
    body = observed.route.body if observed.route else None
    return Route.parse(body) if body is not None else None


def _live(observed: ObservedRollout, name: str) -> Manifest | None:
    return next((each for each in observed.deployments if each["metadata"]["name"] == name), None)


def _ref(found: Manifest) -> ObjectRef:
    metadata = found["metadata"]
    return ObjectRef(found["apiVersion"], found["kind"], metadata["namespace"], metadata["name"], metadata["uid"])
