"""KServe's InferenceServices of rollouts."""

from trimtab_operator import names
from trimtab_operator.api.v1alpha1 import ModelRollout, Reason
from trimtab_operator.cluster.client import Client
from trimtab_operator.cluster.optional import OptionalKind
from trimtab_operator.state import ObservedInference, Problem

_SERVICES = OptionalKind(
    "InferenceService",
    install="KServe",
    value="kserve.enabled",
    not_installed=Reason.KSERVE_NOT_INSTALLED,
    not_permitted=Reason.KSERVE_NOT_PERMITTED,
)


class InferenceReader:
    """Reads the InferenceService of a rollout."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def __call__(self, rollout: ModelRollout) -> ObservedInference | None:
        """The InferenceService, or why there is none; None where the rollout needs none.

        Raises:
            RetryableError: the API server does not answer.
        """
        kserve, namespace = rollout.spec.serving.kserve, rollout.metadata.namespace
        if kserve is None:
            return None
        name = kserve.inference_service
        body = await _SERVICES.read(self._client, namespace, name)
        if isinstance(body, Problem):
            return ObservedInference(name, problem=body)
        if body is None:
            message = f"InferenceService '{name}' does not exist in this namespace: make it; the rollout goes on by itself then."
            return ObservedInference(name, problem=Problem(Reason.INFERENCE_SERVICE_NOT_FOUND, message))
        writer = (body["metadata"].get("annotations") or {}).get(names.INFERENCE_ROLLOUT_ANNOTATION, "")
        if writer not in ("", rollout.metadata.name):
            message = (
                f"ModelRollout '{writer}' writes the model of InferenceService '{name}': name another one in "
                f"spec.serving.kserve.inferenceService, or remove its annotation {names.INFERENCE_ROLLOUT_ANNOTATION} "
                "if that rollout is gone."
            )
            return ObservedInference(name, problem=Problem(Reason.NAME_CONFLICT, message))
        return ObservedInference(name, body)
