"""What every pod of Trimtab has in common: Pod Security `restricted`, placement by the profile, no rights of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trimtab_operator.api.v1alpha1.training_profile import ResourceRequirements, TrainingProfileSpec
from trimtab_operator.plan.volumes import Volume
from trimtab_operator.state import Manifest
from trimtab_trainer.contract import mounts

USER_ID = 65532
"""`nonroot` of distroless images; the images of Trimtab make the same user."""
_CLAIM = "accelerators"


@dataclass(frozen=True, slots=True)
class Container:
    """A container, as far as it differs from pod to pod."""

    name: str
    image: str
    command: Sequence[str]
    environment: Mapping[str, str]
    resources: ResourceRequirements
    accelerators: int = 0
    ports: Sequence[Manifest] = ()
    probes: Mapping[str, Manifest] | None = None
    """`startupProbe`, `readinessProbe`, `livenessProbe`, `lifecycle`."""


def pod_spec(profile: TrainingProfileSpec, container: Container, *, volumes: Sequence[Volume]) -> Manifest:
    """A pod that passes Pod Security `restricted`, placed as the profile says. The caller adds what its owner needs."""
    spec: Manifest = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER_ID,
            "runAsGroup": USER_ID,
            "fsGroup": USER_ID,
            # Chowning a large claim file by file at every start would take minutes.
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationGracePeriodSeconds": profile.termination_grace_period_seconds,
        "containers": [_container(profile, container, volumes)],
        "volumes": [volume.to_volume() for volume in volumes],
    }
    return spec | _claims(profile, container) | _placement(profile)


def add_container(
    spec: Manifest, profile: TrainingProfileSpec, container: Container, *, volumes: Sequence[Volume]
) -> Manifest:
    """The pod with one container more, and the volumes that it does not have yet."""
    known = {volume["name"] for volume in spec["volumes"]}
    added = spec | {
        "containers": [*spec["containers"], _container(profile, container, volumes)],
        "volumes": [*spec["volumes"], *(volume.to_volume() for volume in volumes if volume.name not in known)],
    }
    return added | _claims(profile, container)


def _claims(profile: TrainingProfileSpec, container: Container) -> Manifest:
    if not _uses_claim(profile, container):
        return {}
    return {"resourceClaims": [{"name": _CLAIM, "resourceClaimTemplateName": profile.resource_claim_template_name}]}


def _placement(profile: TrainingProfileSpec) -> Manifest:
    placement: Manifest = {}
    if profile.image_pull_secrets:
        placement["imagePullSecrets"] = [{"name": name} for name in profile.image_pull_secrets]
    if profile.runtime_class_name:
        placement["runtimeClassName"] = profile.runtime_class_name
    if profile.node_selector:
        placement["nodeSelector"] = dict(profile.node_selector)
    if profile.tolerations:
        placement["tolerations"] = [
            {key: value for key, value in toleration.to_json().items() if value != ""}
            for toleration in profile.tolerations
        ]
    return placement


def _container(profile: TrainingProfileSpec, container: Container, volumes: Sequence[Volume]) -> Manifest:
    manifest: Manifest = {
        "name": container.name,
        "image": container.image,
        "imagePullPolicy": profile.image_pull_policy,
        "command": list(container.command),
        "env": _environment(profile, container),
        "resources": _resources(profile, container),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "terminationMessagePath": str(mounts.TERMINATION_MESSAGE_FILE),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [mount for volume in volumes for mount in volume.to_mounts()],
    }
    if container.ports:
        manifest["ports"] = list(container.ports)
    return manifest | dict(container.probes or {})


def _environment(profile: TrainingProfileSpec, container: Container) -> list[Manifest]:
    """Ours win over the profile's: the contract's variables are not the profile's to change."""
    variables = {variable.name: variable.value for variable in profile.environment} | {
        "HOME": str(mounts.SCRATCH_DIRECTORY),
        # The user has no entry in /etc/passwd; torch asks for its name.
        "USER": "trimtab",
        **container.environment,
    }
    return [{"name": name, "value": value} for name, value in variables.items()]


def _uses_claim(profile: TrainingProfileSpec, container: Container) -> bool:
    return bool(profile.resource_claim_template_name) and container.accelerators > 0


def _resources(profile: TrainingProfileSpec, container: Container) -> Manifest:
    requests = {name: str(quantity) for name, quantity in container.resources.requests.items()}
    limits = {name: str(quantity) for name, quantity in container.resources.limits.items()}
    resources: Manifest = {"requests": requests, "limits": limits}
    if _uses_claim(profile, container):
        resources["claims"] = [{"name": _CLAIM}]
    elif container.accelerators:
        requests[profile.accelerator_resource] = limits[profile.accelerator_resource] = str(container.accelerators)
    return resources
