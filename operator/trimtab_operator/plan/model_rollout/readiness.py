"""What the servers have reached: read from their reports and from the Deployment."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from trimtab_operator import names
from trimtab_operator.api.v1alpha1.reasons import Reason
from trimtab_operator.state import Manifest, ObservedRollout, Problem, RolloutCourse, ServerNews
from trimtab_trainer.contract.exit_codes import EXIT_CODE_OF, USER_MUST_ACT, TrainerReason
from trimtab_trainer.contract.run_config import ServerConfig
from trimtab_trainer.contract.serving import config_digest

FRESH = timedelta(seconds=30)
"""An older report says nothing any more: a server reports at least every ten seconds."""


_REPORT_SECONDS, _CANARY_REPORT_SECONDS = 8.0, 2.0


class Reached(Protocol):
    """How far what serves has come, whatever it is."""

    @property
    def confirmed(self) -> bool:
        """It follows the stored routing."""

    def loaded(self, name: str) -> bool:
        """Whether a version can answer."""

    def refusal(self, name: str) -> Problem | None:
        """Why a version cannot be loaded."""

    def missing(self, name: str) -> Problem:
        """What is waited for while it is not loaded."""


@dataclass(frozen=True, slots=True)
class Readiness:
    """What the servers say, as far as it can be known."""

    reports: tuple[ServerNews, ...]
    """Fresh ones."""
    silent: tuple[str, ...]
    """Ready pods that have not reported."""
    is_early: bool
    """The operator has not listened for long enough to call that silence."""
    confirmed: bool
    """Every server follows what it is told."""

    def loaded(self, name: str) -> bool:
        """Whether every server has that version in memory."""
        states = [_state(news, name) for news in self.reports]
        return bool(states) and not self.silent and all(state == "Ready" for state in states)

    def refusal(self, name: str) -> Problem | None:
        """Why a server does not load that version. A problem of the platform passes by itself."""
        for news in self.reports:
            for version in news.report.versions:
                if version.name == name and version.state == "Refused":
                    reason = version.reason or TrainerReason.TRAINER_ERROR
                    who = "user" if EXIT_CODE_OF[reason] in USER_MUST_ACT else "platform"
                    message = f"Server {news.pod} does not load {name}: {reason.value}: {version.message}"
                    return Problem(Reason.VERSION_REFUSED, message, who=who)  # type: ignore[arg-type]
        return None

    def missing(self, name: str) -> Problem:
        """What is waited for while it is not loaded everywhere."""
        if self.silent and not self.is_early:
            return Problem(
                Reason.SERVERS_SILENT,
                f"Server {self.silent[0]} does not report to the operator, so that nothing can be said about {name}. "
                "It needs a way to the operator's status endpoint (port 8443): see its log and the NetworkPolicies.",
                who="platform",
            )
        if self.silent or not self.reports:
            return Problem(Reason.PROGRESSING, f"Not every server has reported yet; {name} waits.")
        ready = sum(_state(news, name) == "Ready" for news in self.reports)
        return Problem(Reason.PROGRESSING, f"{ready} of {len(self.reports)} servers have loaded {name}.")


def read(observed: ObservedRollout, configs: Mapping[str, ServerConfig], *, now: datetime) -> Readiness:
    """The servers among the pods that are there, beside what they are told."""
    keys = {pod["metadata"].get("uid", ""): _key(pod) for pod in observed.pods if not _is_going(pod)}
    fresh = tuple(news for news in observed.reports if news.uid in keys and now - news.received_at <= FRESH)
    heard = {news.uid for news in fresh}
    silent = tuple(
        pod["metadata"]["name"]
        for pod in observed.pods
        if not _is_going(pod) and is_ready(pod) and pod["metadata"].get("uid", "") not in heard
    )
    told = {key: config_digest(config) for key, config in configs.items()}
    follow = all(news.report.digest == told.get(keys[news.uid]) for news in fresh)
    early = observed.listening_since is not None and now - observed.listening_since <= FRESH
    return Readiness(fresh, silent, is_early=early, confirmed=bool(fresh) and not silent and follow)


def is_complete(deployment: Manifest | None, planned: Manifest) -> bool:
    """Every server was made from the planned template and is ready; none of an older one is left."""
    if deployment is None or _hash(deployment) != _hash(planned):
        return False
    status, replicas = deployment.get("status") or {}, int(deployment["spec"].get("replicas", 1))
    if status.get("observedGeneration", 0) < deployment["metadata"].get("generation", 1):
        return False
    counted = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
    return all(int(status.get(name, 0)) == replicas for name in counted)


def report_seconds(course: RolloutCourse) -> float:
    """How often servers should report at least: an analysis wants fresh numbers."""
    return _REPORT_SECONDS if course.canary is None else _CANARY_REPORT_SECONDS


def is_ready(pod: Manifest) -> bool:
    """Whether the Service sends requests to it."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def _state(news: ServerNews, name: str) -> str:
    return next((version.state for version in news.report.versions if version.name == name), "")


def _is_going(pod: Manifest) -> bool:
    status = pod.get("status") or {}
    return bool(pod["metadata"].get("deletionTimestamp")) or status.get("phase") in ("Succeeded", "Failed")


def _key(pod: Manifest) -> str:
    return str((pod["metadata"].get("annotations") or {}).get(names.SERVER_CONFIG_ANNOTATION, ""))


def _hash(deployment: Manifest) -> str:
    metadata = deployment["spec"]["template"].get("metadata") or {}
    return str((metadata.get("annotations") or {}).get(names.CONFIG_HASH_ANNOTATION, ""))
