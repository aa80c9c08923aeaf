"""KServe's InferenceServices: read by name when a rollout is looked at. Optional kinds are not watched: nothing breaks where they are missing."""

from trimtab_operator import names
from trimtab_operator.api.v1alpha1 import ModelRollout, Reason
from trimtab_operator.cluster.client import Client
from trimtab_operator.cluster.resources import resource_of
from trimtab_operator.errors import NotFoundError, RejectedError
from trimtab_operator.state import ObservedInference, Problem

_KIND = "InferenceService"


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
        try:
            body = await self._client.get(resource_of(_KIND), namespace, name)
        except NotFoundError:
            return ObservedInference(name, problem=await self._what_is_missing(name))
        except RejectedError as error:
            message = f"The operator may not read InferenceServices ({error}): have an administrator set kserve.enabled in the chart's values."
            return ObservedInference(name, problem=Problem(Reason.KSERVE_NOT_PERMITTED, message, who="platform"))
        writer = (body["metadata"].get("annotations") or {}).get(names.INFERENCE_ROLLOUT_ANNOTATION, "")
        if writer not in ("", rollout.metadata.name):
            message = (
                f"ModelRollout '{writer}' writes the model of InferenceService '{name}': name another one in "
                f"spec.serving.kserve.inferenceService, or remove its annotation {names.INFERENCE_ROLLOUT_ANNOTATION} "
                "if that rollout is gone."
            )
            return ObservedInference(name, problem=Problem(Reason.NAME_CONFLICT, message))
        return ObservedInference(name, body)

    async def _what_is_missing(self, name: str) -> Problem:
        if not await self._client.serves(resource_of(_KIND)):
            return Problem(
                Reason.KSERVE_NOT_INSTALLED,
                "This cluster has no InferenceServices (serving.kserve.io/v1beta1): have an administrator install KServe; "
                "the rollout goes on by itself then.",
                who="platform",
            )
        message = (
            f"InferenceService '{name}' does not exist in this namespace: make it; the rollout goes on by itself then."
        )
        return Problem(Reason.INFERENCE_SERVICE_NOT_FOUND, message)
