"""A rollout on KServe: which model an InferenceService shall have and how much of the traffic, and what its status says about that.

Nothing here waits in memory. The service's own spec says which model it was given; an annotation that is written together with the model
says which revision was the newest before, because KServe's status does not say which generation it speaks of.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from trimtab_operator import names
from trimtab_operator.api.v1alpha1 import ModelVersion
from trimtab_operator.api.v1alpha1.reasons import Reason
from trimtab_operator.inference import InferenceService
from trimtab_operator.plan.model_rollout import steps
from trimtab_operator.plan.model_rollout.course import Pass, decide
from trimtab_operator.state import Manifest, ObservedRollout, Plan, Problem, RolloutCourse

LOOK_AGAIN = timedelta(seconds=3)
"""While something moves: what is optional in a cluster is read, not watched."""
LOOK_AGAIN_AT_REST = timedelta(seconds=15)


@dataclass(frozen=True, slots=True)
class Target:
    """What the InferenceService shall serve."""

    version: ModelVersion
    weight: int
    """Percent of the traffic; the rest stays with the revision before."""
    is_canary: bool

    @property
    def uri(self) -> str:
        """Where KServe finds it."""
        return self.version.published.uri


@dataclass(frozen=True, slots=True)
class Reached:
    """What KServe says, as far as it can be known."""

    service: InferenceService | None
    target: Target | None
    uris: dict[str, str]
    """Of the model's versions, by name."""

    @property
    def confirmed(self) -> bool:
        """The traffic goes as it was stored."""
        if self.service is None or self.target is None or self.service.uri != self.target.uri:
            return False
        if not self.service.splits:
            return self.service.is_loaded
        return self.service.percent == self.service.newest_percent == self.target.weight

    def loaded(self, name: str) -> bool:
        """Whether KServe has that version ready."""
        return self._has(name) and self.service is not None and self.service.is_loaded

    def refusal(self, name: str) -> Problem | None:
        """Why KServe does not load it. It tries again by itself."""
        service = self.service
        if service is None or not self._has(name) or not service.failure:
            return None
        who: Any = "platform" if service.is_runtime_failure else "user"
        return Problem(Reason.VERSION_REFUSED, f"KServe does not load {name}: {service.failure}", who=who)

    def missing(self, name: str) -> Problem:
        """What is waited for while it is not loaded."""
        if not self._has(name):
            return Problem(Reason.PROGRESSING, f"InferenceService waits for {name}.")
        said = f": {self.service.waits_for}" if self.service and self.service.waits_for else ""
        return Problem(Reason.PROGRESSING, f"KServe loads {name}{said.rstrip('.')}.")

    def _has(self, name: str) -> bool:
        return self.service is not None and bool(self.service.uri) and self.service.uri == self.uris.get(name)


def make_plan(observed: ObservedRollout, problems: Sequence[Problem], *, now: datetime) -> Plan:
    """The fields of the InferenceService that follow from the stored status, and the course from here."""
    found = observed.inference
    service = InferenceService.parse(found.body) if found is not None and found.body is not None else None
    target = target_of(observed, problems, service)
    uris = {version.metadata.name: version.published.uri for version in observed.versions if version.artifact}
    reached = Reached(service, target, uris)
    course = decide(Pass(observed, problems, reached, complete=service is not None, now=now))
    merge = () if service is None or target is None else (fields(observed, service, target),)
    return Plan(merge=merge, rollout=course, requeue_after=look_again(observed, course))


def target_of(
    observed: ObservedRollout, problems: Sequence[Problem], service: InferenceService | None
) -> Target | None:
    """By the stored status: never more than was recorded."""
    status, stable = observed.rollout.status, observed.stable
    if stable is None:
        wanted = observed.wanted
        return Target(wanted, steps.FULL, is_canary=False) if wanted is not None and not problems else None
    for told in status.routing.versions:
        version = observed.version(told.version)
        if version is not None and version.artifact and told.version != stable.spec.version:
            return Target(version, told.weight, is_canary=True)
    back = observed.version(status.canary.version) if status.canary and status.canary.rollback else None
    if (
        back is not None
        and back.artifact
        and service is not None
        and service.splits
        and service.uri == back.published.uri
    ):
        # Traffic leaves it at once. The stable model again would be a new revision, and traffic would stay until that is ready.
        return Target(back, 0, is_canary=True)
    return Target(stable, steps.FULL, is_canary=False)


def fields(observed: ObservedRollout, service: InferenceService, target: Target) -> Manifest:
    """All that is ours of the InferenceService."""
    changes = service.uri != target.uri
    predictor: Manifest = {"model": {"storageUri": target.uri}}
    if service.splits:
        predictor["canaryTrafficPercent"] = _percent(observed, service, target)
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": service.name,
            "namespace": observed.rollout.metadata.namespace,
            "uid": service.uid,
            "annotations": {
                names.INFERENCE_ROLLOUT_ANNOTATION: observed.rollout.metadata.name,
                names.REPLACED_REVISION_ANNOTATION: service.newest_revision if changes else service.replaced_revision,
            },
        },
        "spec": {"predictor": predictor},
    }


def _percent(observed: ObservedRollout, service: InferenceService, target: Target) -> int:
    """A model that is new here gets nothing before it is loaded, unless nothing else answers."""
    if observed.stable is None:
        return steps.FULL
    if service.uri != target.uri:
        return 0
    if target.is_canary or service.is_loaded:
        return target.weight
    return steps.FULL if service.percent is None else service.percent


def look_again(observed: ObservedRollout, course: RolloutCourse) -> timedelta:
    """When to read what is not watched again."""
    at_rest = course.canary is None and course.stable == observed.rollout.spec.version and course.confirmed
    regular = LOOK_AGAIN_AT_REST if at_rest else LOOK_AGAIN
    return regular if course.look_again is None else min(course.look_again, regular)
