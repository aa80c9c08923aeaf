"""Gateway API's HTTPRoutes: read by name when a rollout is looked at. Optional kinds are not watched: nothing breaks where they are missing."""

from trimtab_operator.api.v1alpha1 import ModelRollout, Reason
from trimtab_operator.cluster.client import Client
from trimtab_operator.cluster.resources import resource_of
from trimtab_operator.errors import NotFoundError, RejectedError
from trimtab_operator.state import ObservedRoute, Problem

_KIND = "HTTPRoute"


class RouteReader:
    """Reads the HTTPRoute of a rollout."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def __call__(self, rollout: ModelRollout) -> ObservedRoute | None:
        """The HTTPRoute, or why there can be none; None where the rollout needs none.

        Raises:
            RetryableError: the API server does not answer.
        """
        if rollout.spec.serving.gateway is None:
            return None
        metadata = rollout.metadata
        try:
            return ObservedRoute(await self._client.get(resource_of(_KIND), metadata.namespace, metadata.name))
        except NotFoundError:
            return ObservedRoute(problem=None if await self._client.serves(resource_of(_KIND)) else _NOT_INSTALLED)
        except RejectedError as error:
            message = f"The operator may not read HTTPRoutes ({error}): have an administrator set gatewayAPI.enabled in the chart's values."
            return ObservedRoute(problem=Problem(Reason.GATEWAY_API_NOT_PERMITTED, message, who="platform"))


_NOT_INSTALLED = Problem(
    Reason.GATEWAY_API_NOT_INSTALLED,
    "This cluster has no HTTPRoutes (gateway.networking.k8s.io/v1): have an administrator install Gateway API and a controller for it; "
    "the rollout goes on by itself then.",
    who="platform",
)
