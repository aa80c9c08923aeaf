"""Rules of rollouts whose versions have servers of their own behind a Gateway."""

from trimtab_operator.api.v1alpha1.reasons import Reason
from trimtab_operator.state import ObservedRollout, Problem

_WHOLE = "safetensors"


def route_can_be_read(observed: ObservedRollout) -> Problem | None:
    """Gateway API is there, and the operator may use it."""
    return observed.route.problem if observed.route is not None else None


def whole_models_have_a_gateway(observed: ObservedRollout) -> Problem | None:
    """Adapters are weighed by the router, whole models by the route."""
    version, serving = observed.wanted, observed.rollout.spec.serving
    if version is None or version.artifact is None or serving.vllm is None:
        return None
    is_whole = version.published.format == _WHOLE
    if is_whole == (serving.gateway is not None):
        return None
    name, field = version.metadata.name, "spec.serving.vllm.gateway"
    if is_whole:
        message = (
            f"{name} is a whole model: name the Gateways in {field}.parentRefs, or set spec.version to an adapter. "
            "A rollout that serves adapters cannot get the field any more: make another ModelRollout."
        )
    else:
        message = (
            f"{name} is {version.published.format}, and {field} is for whole models (safetensors): set spec.version to "
            "one, or serve the adapter with a ModelRollout without that field."
        )
    return Problem(Reason.NOT_COMPATIBLE, message)
