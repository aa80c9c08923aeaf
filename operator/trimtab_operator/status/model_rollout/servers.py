"""The Deployment and its pods as typed values: parsed once, here, then trusted."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from trimtab_operator import names
from trimtab_operator.gateway_api import Route
from trimtab_operator.inference import InferenceService
from trimtab_operator.state import Manifest, ObservedRollout, Plan
from trimtab_trainer.contract.messages import TerminationMessage

_LOG_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class Ended:
    """How a server container ended."""

    container: str
    exit_code: int
    reason: str
    text: str
    """The termination message, or the end of the log where there is none."""

    @property
    def message(self) -> TerminationMessage | None:
        """The server's last words, when they are ours."""
        try:
            return TerminationMessage.model_validate_json(self.text, extra="ignore")
        except ValidationError:
            return None

    @property
    def tail(self) -> str:
        """The end of its log, on one line."""
        line = " ".join(self.text.split())
        return line if len(line) <= _LOG_CHARACTERS else f"...{line[-_LOG_CHARACTERS:]}"


@dataclass(frozen=True, slots=True)
class ServerPod:
    """One server."""

    name: str
    template: str
    """Hash of the pod template that it was made from."""
    is_ready: bool
    is_going: bool
    unschedulable: str
    """Why it fits on no node; empty when it does."""
    waiting: tuple[str, str]
    """Reason and message of a container that waits."""
    waits_in: str
    """Its name."""
    ended: Ended | None
    """How the container ended last."""
    restarts: int


@dataclass(frozen=True, slots=True)
class Servers:
    """The Deployment of a rollout, beside what it should be."""

    replicas: int
    available: int
    is_current: bool
    """It is what the plan says, and the Deployment controller has seen that."""
    is_complete: bool
    """Every server runs the current template and is ready; none of an older one is left."""
    is_overdue: bool
    """The Deployment's progress deadline is over."""
    refusal: str
    """Why the API server lets no pod be made; empty when it does."""
    pods: tuple[ServerPod, ...]
    """Those that are not on their way out."""
    current_pods: tuple[ServerPod, ...]
    """Those of the current template."""


NONE = Servers(0, 0, is_current=False, is_complete=False, is_overdue=False, refusal="", pods=(), current_pods=())


def observe(observed: ObservedRollout, plan: Plan) -> Servers:
    """Compare the Deployment with the plan. Without a plan (a problem) what is there counts as it is."""
    if observed.inference is not None:
        return _inference(observed, plan)
    planned = {each["metadata"]["name"]: each["spec"] for each in plan.apply if each["kind"] == "Deployment"}
    if observed.route is not None:
        return _of_whole_models(observed, plan, planned)
    found = observed.deployment
    return NONE if found is None else _of_deployment(observed, found, next(iter(planned.values()), None))


def _of_deployment(observed: ObservedRollout, found: Manifest, planned: Manifest | None) -> Servers:
    status, spec = found.get("status") or {}, found["spec"]
    conditions = {condition["type"]: condition for condition in status.get("conditions") or ()}
    template = _template(spec)
    replicas = int(spec.get("replicas", 1))
    seen = status.get("observedGeneration", 0) >= found["metadata"].get("generation", 1)
    current = seen and planned is not None and _template(planned) == template
    counts = [
        int(status.get(name, 0)) for name in ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
    ]
    pods = tuple(pod for pod in map(_pod, observed.pods) if not pod.is_going)
    return Servers(
        replicas=replicas,
        available=_available(found),
        is_current=current,
        is_complete=current and all(count == replicas for count in counts),
        is_overdue=conditions.get("Progressing", {}).get("reason") == "ProgressDeadlineExceeded",
        refusal=_refusal(conditions.get("ReplicaFailure", {})),
        pods=pods,
        current_pods=tuple(pod for pod in pods if pod.template == template),
    )


def _of_whole_models(observed: ObservedRollout, plan: Plan, planned: dict[str, Manifest]) -> Servers:
    """All servers together. Those answer that the route sends requests to."""
    route = Route.parse(observed.route.body) if observed.route and observed.route.body else None
    routed = {name for name, weight in route.weights.items() if weight} if route and not route.is_refused else set()
    there = {found["metadata"]["name"]: found for found in observed.deployments}
    parts = [
        _of_deployment(observed, found, planned.get(name))
        for name, found in there.items()
        if not planned or name in planned
    ]
    if not parts:
        return NONE
    current = len(parts) == len(planned) and all(part.is_current for part in parts)
    confirmed = plan.rollout is not None and plan.rollout.confirmed
    pods = parts[0].pods
    return Servers(
        replicas=sum(part.replicas for part in parts),
        available=sum(_available(found) for found in observed.deployments if found["metadata"]["name"] in routed),
        is_current=current,
        is_complete=current and confirmed and all(part.is_complete for part in parts),
        is_overdue=any(part.is_overdue for part in parts),
        refusal=next((part.refusal for part in parts if part.refusal), ""),
        pods=pods,
        current_pods=tuple(pod for pod in pods if any(pod in part.current_pods for part in parts)),
    )


def _inference(observed: ObservedRollout, plan: Plan) -> Servers:
    """An InferenceService counts as one server, whose pods are KServe's business."""
    body = observed.inference.body if observed.inference else None
    if body is None:
        return NONE
    is_ready = InferenceService.parse(body).is_ready
    confirmed = plan.rollout is not None and plan.rollout.confirmed
    return replace(NONE, replicas=1, available=int(is_ready), is_current=True, is_complete=is_ready and confirmed)


def _available(deployment: Manifest) -> int:
    return int((deployment.get("status") or {}).get("availableReplicas", 0))


def _template(spec: Manifest) -> str:
    metadata = spec["template"].get("metadata") or {}
    return str((metadata.get("annotations") or {}).get(names.CONFIG_HASH_ANNOTATION, ""))


def _refusal(condition: Manifest) -> str:
    return str(condition.get("message", "")) if condition.get("status") == "True" else ""


def _pod(manifest: Manifest) -> ServerPod:
    metadata, status = manifest["metadata"], manifest.get("status") or {}
    conditions = {condition["type"]: condition for condition in status.get("conditions") or ()}
    containers: Sequence[Manifest] = status.get("containerStatuses") or ()
    scheduled = conditions.get("PodScheduled", {})
    waits: Manifest = next((each for each in containers if (each.get("state") or {}).get("waiting")), {})
    waiting: dict[str, Any] = waits["state"]["waiting"] if waits else {}
    return ServerPod(
        name=metadata["name"],
        template=(metadata.get("annotations") or {}).get(names.CONFIG_HASH_ANNOTATION, ""),
        is_ready=conditions.get("Ready", {}).get("status") == "True",
        is_going=bool(metadata.get("deletionTimestamp")) or status.get("phase") in ("Succeeded", "Failed"),
        unschedulable=_unschedulable(scheduled),
        waiting=(str(waiting.get("reason", "")), str(waiting.get("message", ""))),
        waits_in=str(waits.get("name", "")),
        ended=next((ended for each in containers if (ended := _ended(each)) is not None), None),
        restarts=sum(int(each.get("restartCount", 0)) for each in containers),
    )


def _unschedulable(condition: Manifest) -> str:
    if condition.get("status") == "False" and condition.get("reason") == "Unschedulable":
        return str(condition.get("message", "")) or "no node has room"
    return ""


def _ended(container: Manifest) -> Ended | None:
    for state in (container.get("state") or {}, container.get("lastState") or {}):
        ended = state.get("terminated")
        if ended:
            return Ended(
                container=str(container.get("name", "")),
                exit_code=int(ended.get("exitCode", 0)),
                reason=str(ended.get("reason", "")),
                text=str(ended.get("message", "")),
            )
    return None
