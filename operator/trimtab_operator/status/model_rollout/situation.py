"""One word and one sentence about a rollout, from which the conditions follow."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from trimtab_operator.api.v1alpha1.reasons import Reason
from trimtab_operator.state import ObservedRollout, Problem, RolloutCourse
from trimtab_operator.status.model_rollout.failures import Failure, find_failure
from trimtab_operator.status.model_rollout.servers import Servers

State = Literal["Pending", "Rejected", "Progressing", "Paused", "Stable", "RolledBack", "Degraded", "Unavailable"]
_WAITS_FOR = frozenset({Reason.MODEL_VERSION_NOT_FOUND, Reason.INFERENCE_SERVICE_NOT_FOUND})
"""What appears by itself one day."""


@dataclass(frozen=True, slots=True)
class Situation:
    """Where a rollout stands."""

    state: State
    reason: Reason
    message: str
    is_stuck: bool = False
    """Nothing moves until a person acts."""

    @property
    def is_moving(self) -> bool:
        """It changes by itself."""
        return self.state != "Stable" and not self.is_stuck


def assess(
    observed: ObservedRollout, problems: Sequence[Problem], servers: Servers, course: RolloutCourse
) -> Situation:
    """What is wrong outranks what is on its way; what serves is told beside it."""
    if problems:
        return _refused(observed, problems, servers)
    if observed.rejected is not None:
        rejected = observed.rejected
        message = f"The API server refuses {rejected.kind}: {rejected.message}"
        return _failing(observed, Failure(rejected.reason, message, is_final=True), servers)
    failure = None if servers.is_complete else find_failure(servers, observed.rollout.spec.serving.kind)
    if failure is None and course.failure is not None:
        failure = Failure(course.failure.reason, course.failure.message, is_final=course.failure.who == "user")
    if failure is not None:
        if course.canary is not None and course.canary.rollback is not None:
            return _rolled_back(observed, failure)
        return _failing(observed, failure, servers)
    return _moving(observed, servers, course)


def _moving(observed: ObservedRollout, servers: Servers, course: RolloutCourse) -> Situation:
    if course.waits is not None:
        return _on_the_way(course.waits)
    if servers.is_complete and course.stable == observed.rollout.spec.version:
        return Situation("Stable", Reason.STABLE, _serves(observed, servers))
    return _progressing(observed, servers)


def _on_the_way(waits: Problem) -> Situation:
    """A canary that goes on by itself, or that waits for a person."""
    paused = waits.reason in (Reason.PAUSED, Reason.ANALYSIS_INCONCLUSIVE, Reason.ANALYSIS_ERROR)
    return Situation("Paused" if paused else "Progressing", waits.reason, waits.message)


def _rolled_back(observed: ObservedRollout, failure: Failure) -> Situation:
    message = f"{failure.message} {_goes_on(observed)} Set spec.version to another one, or retry."
    return Situation("RolledBack", failure.reason, message, is_stuck=True)


def _refused(observed: ObservedRollout, problems: Sequence[Problem], servers: Servers) -> Situation:
    first = problems[0]
    stuck = first.who == "user" and first.reason not in _WAITS_FOR
    message = " ".join(problem.message for problem in problems)
    if servers.available:
        return Situation("Degraded", first.reason, f"{message} {_goes_on(observed)}", stuck)
    return Situation("Rejected" if stuck else "Pending", first.reason, message, stuck)


def _failing(observed: ObservedRollout, failure: Failure, servers: Servers) -> Situation:
    if servers.available:
        return Situation("Degraded", failure.reason, f"{failure.message} {_goes_on(observed)}", failure.is_final)
    return Situation("Unavailable", failure.reason, failure.message, failure.is_final)


def _progressing(observed: ObservedRollout, servers: Servers) -> Situation:
    spec, stable = observed.rollout.spec, observed.rollout.status.stable_version
    ready = sum(pod.is_ready for pod in servers.current_pods)
    if stable == spec.version and servers.is_current and not servers.available:
        message = f"No server of version {stable} is ready at the moment ({ready} of {servers.replicas})."
        if observed.inference is not None:
            message = f"InferenceService {observed.inference.name} is not ready at the moment: its conditions say why."
        return Situation("Unavailable", Reason.NOT_AVAILABLE, message)
    if stable is None:
        doing = f"Starting version {spec.version}"
    elif stable == spec.version:
        doing = f"Renewing the servers of version {stable}"
    else:
        doing = f"Moving from version {stable} to {spec.version}"
    if observed.inference is not None:
        message = f"{doing}: InferenceService {observed.inference.name} follows."
    else:
        message = f"{doing}: {ready} of {_replicas(observed)} servers are ready."
    return Situation("Progressing", Reason.PROGRESSING, message)


def _serves(observed: ObservedRollout, servers: Servers) -> str:
    spec = observed.rollout.spec
    if observed.inference is not None:
        return (
            f"Version {spec.version} of {spec.model_name} serves: InferenceService {observed.inference.name} is ready."
        )
    return f"Version {spec.version} of {spec.model_name} serves: {servers.available} of {servers.replicas} servers are ready."


def _goes_on(observed: ObservedRollout) -> str:
    stable = observed.rollout.status.stable_version
    return f"Version {stable} goes on serving." if stable is not None else "Some servers are ready."


def _replicas(observed: ObservedRollout) -> int:
    servers = observed.rollout.spec.serving.servers
    return servers.replicas if servers else 1
