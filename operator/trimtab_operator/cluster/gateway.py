"""Gateway API's HTTPRoutes of rollouts."""

from trimtab_operator.api.v1alpha1 import ModelRollout, Reason
from trimtab_operator.cluster.client import Client
from trimtab_operator.cluster.optional import OptionalKind
from trimtab_operator.state import ObservedRoute, Problem

_ROUTES = OptionalKind(
    "HTTPRoute",
    install="Gateway API and a controller for it",
    value="gatewayAPI.enabled",
    not_installed=Reason.GATEWAY_API_NOT_INSTALLED,
    not_permitted=Reason.GATEWAY_API_NOT_PERMITTED,
)


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
        found = await _ROUTES.read(self._client, rollout.metadata.namespace, rollout.metadata.name)
        return ObservedRoute(problem=found) if isinstance(found, Problem) else ObservedRoute(found)
