"""Why a server does not become ready, and who must act."""

from dataclasses import dataclass

from trimtab_operator import names
from trimtab_operator.api.v1alpha1.reasons import Reason
from trimtab_operator.status.model_rollout.servers import Ended, ServerPod, Servers
from trimtab_trainer.contract.exit_codes import EXIT_CODE_OF, USER_MUST_ACT, TrainerReason

_KILLED = 137
_PATIENT_RESTARTS = 2
"""A server that fell over this often does not get up by itself."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What keeps servers from becoming ready."""

    reason: Reason
    message: str
    is_final: bool
    """Nothing changes until a person acts."""


def find_failure(servers: Servers, serving: str) -> Failure | None:
    """The first thing that is wrong; None while servers start, and when all is well."""
    if servers.refusal:
        reason = Reason.QUOTA_EXCEEDED if "exceeded quota" in servers.refusal else Reason.POD_REJECTED
        message = f"The API server lets no server pod be made: {servers.refusal}"
        return Failure(reason, message, is_final=True)
    suspects = [pod for pod in servers.current_pods if not pod.is_ready]
    failure = next((found for pod in suspects if (found := _pod_failure(pod, serving)) is not None), None)
    if failure is not None:
        return Failure(failure.reason, failure.message, is_final=failure.is_final or servers.is_overdue)
    if servers.is_overdue and not servers.is_complete:
        message = "The servers are not ready within the progress deadline: `kubectl logs` of the pods tells what they wait for."
        return Failure(Reason.NOT_AVAILABLE, message, is_final=True)
    return None


def _pod_failure(pod: ServerPod, serving: str) -> Failure | None:
    if pod.unschedulable:
        return Failure(
            Reason.UNSCHEDULABLE,
            f"Pod {pod.name} fits on no node: {pod.unschedulable} It starts as soon as a node has room; a rollout needs room "
            "for one server more than it has replicas. If none ever will, name another TrainingProfile in "
            f"spec.serving.{serving}.profile{', or ask for fewer accelerators' if serving == 'vllm' else ''}.",
            is_final=False,
        )
    reason, message = pod.waiting
    if reason in names.IMAGE_PULL_FAILURES:
        return Failure(
            Reason.IMAGE_PULL_FAILED,
            f"Pod {pod.name} cannot pull its image ({reason}): {message} Mend {_image_field(pod.waits_in)} or imagePullSecrets of "
            "the TrainingProfile, or the registry; the kubelet tries again by itself.",
            is_final=reason != "ErrImagePull",
        )
    if reason == "CreateContainerConfigError" and "secret" in message.lower():
        return Failure(
            Reason.STORAGE_SECRET_MISSING,
            f"Pod {pod.name} waits for the store's credentials: {message}. Make the Secret that the StorageProfile names, with the keys "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, in this namespace; the server starts by itself then.",
            is_final=True,
        )
    if reason in names.CONTAINER_CREATE_FAILURES:
        return Failure(
            Reason.CONTAINER_CREATE_FAILED,
            f"Pod {pod.name} cannot start its container ({reason}): {message}",
            is_final=True,
        )
    if pod.ended is not None:
        return _crash(pod, pod.ended, serving)
    return None


def _crash(pod: ServerPod, ended: Ended, serving: str) -> Failure:
    said = ended.message
    if said is not None and isinstance(said.reason, TrainerReason):
        final = EXIT_CODE_OF[said.reason] in USER_MUST_ACT or pod.restarts >= _PATIENT_RESTARTS
        message = f"Server {pod.name} ends with {said.reason.value}: {said.message}"
        return Failure(Reason.SERVER_CRASHING, message, is_final=final)
    if ended.reason == "OOMKilled":
        return Failure(
            Reason.SERVER_CRASHING,
            f"Pod {pod.name} used more memory than its limit: {_more_memory(ended.container, serving)}",
            is_final=True,
        )
    who = f"Container {ended.container} of pod {pod.name}" if serving == "vllm" else f"Pod {pod.name}"
    said_last = ended.tail or "it left no message; see its log"
    if ended.exit_code == _KILLED:
        how = "was killed, not for its memory limit: it did not start, answer or stop in time"
    else:
        how = f"ended with exit code {ended.exit_code}"
    message = f"{who} {how}: {said_last}"
    return Failure(Reason.SERVER_CRASHING, message, is_final=pod.restarts >= _PATIENT_RESTARTS)


def _image_field(container: str) -> str:
    return "spec.serving.vllm.image" if container == names.VLLM_CONTAINER else "serverImage"


def _more_memory(container: str, serving: str) -> str:
    if serving == "vllm":
        field = "resources" if container == names.VLLM_CONTAINER else "routerResources"
        return f"raise spec.serving.vllm.{field}.limits.memory."
    return "raise serverResources.limits.memory in the TrainingProfile, or name a larger one in spec.serving.builtin.profile."
