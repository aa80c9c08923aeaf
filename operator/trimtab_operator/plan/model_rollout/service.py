"""The address of a rollout."""

from trimtab_operator.api.v1alpha1 import ModelRollout
from trimtab_operator.plan.model_rollout import children
from trimtab_operator.state import Manifest
from trimtab_trainer.contract import mounts

PORT = 80


def service(rollout: ModelRollout) -> Manifest:
    """The Service with the rollout's own name: it stays while versions come and go."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": children.metadata(rollout, rollout.metadata.name),
        "spec": {
            "selector": children.selector(rollout),
            "ports": [{"name": "http", "port": PORT, "targetPort": mounts.SERVER_PORT, "protocol": "TCP"}],
        },
    }
