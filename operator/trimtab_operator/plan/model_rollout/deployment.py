"""The servers of a rollout.

The ServerConfig travels in the pod template, as an annotation that the pod reads as a file. So every pod keeps the
configuration that it was made with: a server that restarts while a bad version is on its way in comes back with the good
one, and the Deployment's own rolling update tells when the new version is live (docs/decisions/0007).
"""

from trimtab_operator import names
from trimtab_operator.api.v1alpha1 import ModelRollout, ModelVersion, StorageProfile, TrainingProfile
from trimtab_operator.plan import pods, volumes
from trimtab_operator.plan.model_rollout import children
from trimtab_operator.plan.model_rollout.server_config import server_config
from trimtab_operator.settings import Settings
from trimtab_operator.state import Manifest
from trimtab_trainer.contract import mounts
from trimtab_trainer.contract.manifests import canonical_json, sha256_hex
from trimtab_trainer.contract.run_config import ServerConfig

CONTAINER = "server"
COMMAND = ("python", "-m", "trimtab_trainer.server")
START_SECONDS = 1800
"""A base model of many gigabytes has to come from the store first."""
_PROBE_SECONDS = 2


def deployment(
    rollout: ModelRollout,
    version: ModelVersion,
    *,
    profile: TrainingProfile,
    storage: StorageProfile,
    settings: Settings,
) -> Manifest:
    """The Deployment `<rollout>-server`. No old pod goes before a new one is ready."""
    config = server_config(rollout, version, profile=profile, storage=storage)
    template: Manifest = {
        "metadata": {
            "labels": {**children.labels(rollout), names.VERSION_LABEL: str(version.spec.version)},
            "annotations": {names.SERVER_CONFIG_ANNOTATION: canonical_json(config.to_json()).decode()},
        },
        "spec": _pod_spec(rollout, config, profile=profile, storage=storage, settings=settings),
    }
    template["metadata"]["annotations"][names.CONFIG_HASH_ANNOTATION] = sha256_hex(canonical_json(template))
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": children.metadata(rollout, names.server(rollout.metadata.name)),
        "spec": {
            "replicas": _replicas(rollout),
            "selector": {"matchLabels": children.selector(rollout)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "progressDeadlineSeconds": START_SECONDS,
            "revisionHistoryLimit": 3,
            "template": template,
        },
    }


def _replicas(rollout: ModelRollout) -> int:
    builtin = rollout.spec.serving.builtin
    return builtin.replicas if builtin else 1


def _pod_spec(
    rollout: ModelRollout,
    config: ServerConfig,
    *,
    profile: TrainingProfile,
    storage: StorageProfile,
    settings: Settings,
) -> Manifest:
    spec = profile.spec
    container = pods.Container(
        name=CONTAINER,
        image=spec.server_image or spec.image or settings.trainer_image,
        command=COMMAND,
        environment={},
        resources=spec.server_resources,
        ports=[{"name": "http", "containerPort": mounts.SERVER_PORT, "protocol": "TCP"}],
        probes=_probes(),
    )
    chosen = [
        _config_volume(),
        volumes.credentials_volume(storage.spec),
        volumes.scratch_volume(spec.scratch_size),
        *volumes.claim_volumes([config.base_model.uri]),
    ]
    return pods.pod_spec(spec, container, volumes=chosen) | {"topologySpreadConstraints": _spread(rollout)}


def _config_volume() -> volumes.Volume:
    """The pod's own annotation, as the file that the server reads."""
    field = f"metadata.annotations['{names.SERVER_CONFIG_ANNOTATION}']"
    items = [{"path": mounts.SERVER_CONFIG_FILE.name, "fieldRef": {"apiVersion": "v1", "fieldPath": field}}]
    return volumes.Volume(
        "config", {"downwardAPI": {"items": items}}, (volumes.Mount(mounts.SERVER_CONFIG_FILE.parent),)
    )


def _probes() -> dict[str, Manifest]:
    """Alive from the start, ready when every version is verified and loaded."""
    return {
        "startupProbe": {
            "httpGet": {"path": "/healthz", "port": "http"},
            "periodSeconds": _PROBE_SECONDS,
            # Ten minutes: importing torch alone takes one on a busy node, and a restart would begin anew.
            "failureThreshold": 300,
        },
        "readinessProbe": {
            "httpGet": {"path": "/readyz", "port": "http"},
            "periodSeconds": _PROBE_SECONDS,
            "timeoutSeconds": 5,
        },
        "livenessProbe": {
            "httpGet": {"path": "/healthz", "port": "http"},
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            # A busy node must not kill a server that answers late.
            "failureThreshold": 6,
        },
    }


def _spread(rollout: ModelRollout) -> list[Manifest]:
    """Replicas prefer different nodes."""
    return [
        {
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": children.selector(rollout)},
        }
    ]
