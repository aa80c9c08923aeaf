"""What every child of a rollout has in common."""

from trimtab_operator import names
from trimtab_operator.api.v1alpha1 import ModelRollout
from trimtab_operator.state import Manifest

COMPONENT = "server"


def selector(rollout: ModelRollout, version: int | None = None) -> dict[str, str]:
    """Labels that tell this rollout's servers, or those of one version, from all other pods. They never change: a Deployment's selector cannot."""
    one = {} if version is None else {names.VERSION_LABEL: str(version)}
    return {names.ROLLOUT_LABEL: rollout.metadata.name, names.COMPONENT_LABEL: COMPONENT} | one


def labels(rollout: ModelRollout, version: int | None = None) -> dict[str, str]:
    """Labels of every child."""
    return {
        names.MANAGED_LABEL: "true",
        **selector(rollout, version),
        names.MODEL_LABEL: rollout.spec.model_name,
        "app.kubernetes.io/name": "trimtab",
        "app.kubernetes.io/instance": rollout.metadata.name,
        "app.kubernetes.io/managed-by": names.FIELD_MANAGER,
    }


def metadata(rollout: ModelRollout, name: str, version: int | None = None) -> Manifest:
    """Metadata of a child. Who applies it adds the owner."""
    return {"name": name, "namespace": rollout.metadata.namespace, "labels": labels(rollout, version)}
