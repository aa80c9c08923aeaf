"""The servers of a rollout.

Nothing about versions or weights is in the pod template: they travel in the ConfigMap, which a server reads when it starts, and over
the status endpoint while it runs, so that moving traffic needs no new pod (docs/decisions/0012).
"""

from trimtab_operator import names
from trimtab_operator.api.v1alpha1 import ModelRollout, StorageProfile
from trimtab_operator.plan import pods, volumes
from trimtab_operator.plan.model_rollout import children
from trimtab_operator.plan.model_rollout.server_config import config_key
from trimtab_operator.plan.model_rollout.vllm import add_vllm
from trimtab_operator.settings import Settings
from trimtab_operator.state import Manifest, ServerSetting
from trimtab_trainer.contract import mounts
from trimtab_trainer.contract.manifests import canonical_json, sha256_hex
from trimtab_trainer.contract.run_config import ServerConfig

CONTAINER = "server"
COMMAND = ("python", "-m", "trimtab_trainer.server")
ROUTER_COMMAND = ("python", "-m", "trimtab_trainer.server.vllm")
START_SECONDS = 1800
"""A base model of many gigabytes has to come from the store first."""
_PROBE_SECONDS = 2


def deployment(rollout: ModelRollout, setting: ServerSetting, config: ServerConfig, *, settings: Settings) -> Manifest:
    """The Deployment `<rollout>-server`, of one version `<rollout>-server-v<N>`. No old pod goes before a new one is ready."""
    version = config.versions[0].version if rollout.spec.serving.gateway else None
    template: Manifest = {
        "metadata": {
            "labels": children.labels(rollout, version),
            "annotations": {names.SERVER_CONFIG_ANNOTATION: config_key(config)},
        },
        "spec": _pod_spec(rollout, setting, config, settings=settings),
    }
    template["metadata"]["annotations"][names.CONFIG_HASH_ANNOTATION] = sha256_hex(canonical_json(template))
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": children.metadata(rollout, names.server(rollout.metadata.name, version), version),
        "spec": {
            "replicas": _replicas(rollout),
            "selector": {"matchLabels": children.selector(rollout, version)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "progressDeadlineSeconds": START_SECONDS,
            "revisionHistoryLimit": 3,
            "template": template,
        },
    }


def _replicas(rollout: ModelRollout) -> int:
    servers = rollout.spec.serving.servers
    return servers.replicas if servers else 1


def _pod_spec(rollout: ModelRollout, setting: ServerSetting, config: ServerConfig, *, settings: Settings) -> Manifest:
    """The server, or the router with vLLM beside it."""
    spec, vllm = setting.profile.spec, rollout.spec.serving.vllm
    container = pods.Container(
        name=CONTAINER,
        image=spec.server_image or spec.image or settings.trainer_image,
        command=ROUTER_COMMAND if vllm else COMMAND,
        environment=_environment(rollout, settings),
        resources=vllm.router_resources if vllm else spec.server_resources,
        ports=[{"name": "http", "containerPort": mounts.SERVER_PORT, "protocol": "TCP"}],
        probes=_probes(),
    )
    config_map = names.server(rollout.metadata.name)
    # A whole model on vLLM brings everything along.
    bases = [config.base_model.uri] if config.offer_base_model else []
    chosen = [
        _config_volume(config_map, config_key(config)),
        volumes.status_volume(config_map, authority=bool(settings.status_ca)),
        volumes.credentials_volume(setting.storage.spec),
        volumes.scratch_volume(spec.scratch_size),
        *volumes.claim_volumes(bases),
        *([volumes.models_volume(spec.scratch_size, read_only=False)] if vllm else []),
        *volumes.hub_volumes(config.base_model.secret_name if bases else ""),
    ]
    pod = pods.pod_spec(spec, container, volumes=chosen) | {"topologySpreadConstraints": _spread(rollout)}
    pod["containers"][0]["env"] += _needs_secret(setting.storage)
    return add_vllm(pod, vllm, spec, base_models=bases) if vllm else pod


def _needs_secret(storage: StorageProfile) -> list[Manifest]:
    """Without the store's Secret the container is not started, and the kubelet looks for it again every few seconds.

    The server reads the Secret as files, which follow a rotation; a server that started without them would hear of a Secret that
    was made meanwhile only after minutes.
    """
    name = storage.spec.credentials.secret_name
    if not name:
        return []
    return [{"name": "TRIMTAB_STORE_KEY", "valueFrom": {"secretKeyRef": {"name": name, "key": "AWS_ACCESS_KEY_ID"}}}]


def _config_volume(config_map: str, key: str) -> volumes.Volume:
    """The one key that this pod was made for, as the file that the server reads. A link, so that the kubelet can renew it."""
    items = [{"key": f"{key}.json", "path": mounts.SERVER_CONFIG_FILE.name}]
    source: Manifest = {"configMap": {"name": config_map, "items": items}}
    return volumes.Volume("config", source, (volumes.Mount(mounts.SERVER_CONFIG_FILE.parent),))


def _environment(rollout: ModelRollout, settings: Settings) -> dict[str, str]:
    """Where the server reports and hears about its weights."""
    metadata = rollout.metadata
    path = f"{names.VERSION}/namespaces/{metadata.namespace}/modelrollouts/{metadata.name}/server"
    environment = {
        mounts.SERVER_URL_VARIABLE: f"{settings.status_url}/{path}",
        mounts.STATUS_TOKEN_VARIABLE: str(mounts.STATUS_DIRECTORY / "token"),
    }
    if settings.status_ca:
        environment[mounts.STATUS_CA_VARIABLE] = str(mounts.STATUS_DIRECTORY / "ca.crt")
    return environment


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
