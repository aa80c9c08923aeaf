"""The address of a rollout, or of one version where each has servers of its own."""

from trimtab_operator import names
from trimtab_operator.api.v1alpha1 import ModelRollout
from trimtab_operator.plan.model_rollout import children
from trimtab_operator.state import Manifest
from trimtab_trainer.contract import mounts

PORT = 80


def service(rollout: ModelRollout, version: int | None = None) -> Manifest:
    """The Service with the rollout's own name stays while versions come and go; that of a version goes with its servers."""
    name = rollout.metadata.name if version is None else names.server(rollout.metadata.name, version)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": children.metadata(rollout, name, version),
        "spec": {
            "selector": children.selector(rollout, version),
            "ports": [{"name": "http", "port": PORT, "targetPort": mounts.SERVER_PORT, "protocol": "TCP"}],
        },
    }
