"""The route that divides the requests between the versions of a whole model."""

from collections.abc import Mapping

from trimtab_operator import names
from trimtab_operator.api.v1alpha1 import ModelRollout
from trimtab_operator.api.v1alpha1.model_rollout import GatewayRouting
from trimtab_operator.plan.model_rollout import children
from trimtab_operator.plan.model_rollout.service import PORT
from trimtab_operator.state import Manifest

API_VERSION = "gateway.networking.k8s.io/v1"


def http_route(rollout: ModelRollout, gateway: GatewayRouting, weights: Mapping[int, int]) -> Manifest:
    """The HTTPRoute with the rollout's own name, and the share of each version. A version without any is named too: its Service is looked at beforehand."""
    name = rollout.metadata.name
    backends = [
        {"group": "", "kind": "Service", "name": names.server(name, version), "port": PORT, "weight": weight}
        for version, weight in weights.items()
    ]
    hostnames = {"hostnames": list(gateway.hostnames)} if gateway.hostnames else {}
    return {
        "apiVersion": API_VERSION,
        "kind": "HTTPRoute",
        "metadata": children.metadata(rollout, name),
        "spec": {
            "parentRefs": [
                {"group": API_VERSION.partition("/")[0], "kind": "Gateway", **parent.to_json()}
                for parent in gateway.parent_refs
            ],
            **hostnames,
            "rules": [{"matches": [{"path": {"type": "PathPrefix", "value": "/"}}], "backendRefs": backends}],
        },
    }
