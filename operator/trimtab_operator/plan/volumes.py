"""Volumes of trainer and server pods. The paths are the contract's; the trainer and the server find them there."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import NamedTuple

from trimtab_operator.api.common import Quantity
from trimtab_operator.api.v1alpha1.storage_profile import StorageProfileSpec
from trimtab_operator.state import Manifest
from trimtab_trainer.contract import mounts

TOKEN_SECONDS = 3600
"""Life of a projected token; the kubelet renews it."""
_CLAIM_SCHEME = "pvc://"


class Mount(NamedTuple):
    """Where a volume appears in the container."""

    path: PurePosixPath
    sub_path: str = ""


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume of the pod together with its mounts in the container."""

    name: str
    source: Manifest
    mounts: tuple[Mount, ...]
    read_only: bool = True

    def to_volume(self) -> Manifest:
        """The entry of `spec.volumes`."""
        return {"name": self.name, **self.source}

    def to_mounts(self) -> list[Manifest]:
        """The entries of the container's `volumeMounts`."""
        return [
            {"name": self.name, "mountPath": str(mount.path)}
            | ({"subPath": mount.sub_path} if mount.sub_path else {})
            | ({"readOnly": True} if self.read_only else {})
            for mount in self.mounts
        ]


def config_volume(config_map: str, *, file: PurePosixPath) -> Volume:
    """One key of a ConfigMap, as the file of the same name."""
    items = [{"key": file.name, "path": file.name}]
    return Volume("config", {"configMap": {"name": config_map, "items": items}}, (Mount(file.parent),))


def annotation_volume(annotation: str, *, file: PurePosixPath) -> Volume:
    """One of the pod's own annotations, as a file (docs/decisions/0007)."""
    field = f"metadata.annotations['{annotation}']"
    items = [{"path": file.name, "fieldRef": {"apiVersion": "v1", "fieldPath": field}}]
    return Volume("config", {"downwardAPI": {"items": items}}, (Mount(file.parent),))


def status_volume(config_map: str, *, authority: bool) -> Volume:
    """The token for the status endpoint, and `ca.crt` of the ConfigMap where the endpoint has an authority of its own."""
    token = {
        "audience": mounts.STATUS_TOKEN_AUDIENCE,
        "expirationSeconds": TOKEN_SECONDS,
        "path": "token",
    }
    sources: list[Manifest] = [{"serviceAccountToken": token}]
    if authority:
        sources.append({"configMap": {"name": config_map, "items": [{"key": "ca.crt", "path": "ca.crt"}]}})
    return Volume("status", {"projected": {"sources": sources}}, (Mount(mounts.STATUS_DIRECTORY),))


def credentials_volume(storage: StorageProfileSpec) -> Volume:
    """What the pod proves its right to the store with."""
    identity = storage.credentials.web_identity
    if identity is not None:
        token = {
            "audience": identity.audience,
            "expirationSeconds": TOKEN_SECONDS,
            "path": mounts.WEB_IDENTITY_TOKEN_FILE.name,
        }
        source: Manifest = {"projected": {"sources": [{"serviceAccountToken": token}]}}
        return Volume("web-identity", source, (Mount(mounts.WEB_IDENTITY_TOKEN_FILE.parent),))
    # Optional: a missing Secret is then told by the trainer, by name, instead of a pod that waits for ever.
    secret = {"secretName": storage.credentials.secret_name, "optional": True}
    return Volume("storage", {"secret": secret}, (Mount(mounts.CREDENTIALS_DIRECTORY),))


def hub_volume(secret_name: str) -> Volume:
    """The Secret that opens gated `hf://` models and data sets."""
    secret = {"secretName": secret_name, "optional": True}
    return Volume("hub", {"secret": secret}, (Mount(mounts.HUB_DIRECTORY),))


def hub_volumes(secret_name: str) -> list[Volume]:
    """The same; none where no Secret is named."""
    return [hub_volume(secret_name)] if secret_name else []


def signing_volume(secret_name: str) -> Volume:
    """The private key that signs the model: that one key of the Secret and no other."""
    key = mounts.SIGNING_KEY_FILE
    # Optional: a missing Secret is then told by the trainer, by name, instead of a pod that waits for ever.
    secret = {"secretName": secret_name, "items": [{"key": key.name, "path": key.name}], "optional": True}
    return Volume("signing", {"secret": secret}, (Mount(key.parent),))


def claim_volumes(uris: Iterable[str]) -> list[Volume]:
    """The persistent volume claims that `pvc://claim/path` URIs name, read-only, each once."""
    claims = {uri.removeprefix(_CLAIM_SCHEME).partition("/")[0] for uri in uris if uri.startswith(_CLAIM_SCHEME)}
    return [
        Volume(
            f"claim-{index}",
            {"persistentVolumeClaim": {"claimName": claim, "readOnly": True}},
            (Mount(mounts.VOLUMES_DIRECTORY / claim),),
        )
        for index, claim in enumerate(sorted(claims))
    ]


def scratch_volume(size: Quantity) -> Volume:
    """The only writable place; `/tmp` lies on it."""
    places = (Mount(mounts.SCRATCH_DIRECTORY), Mount(PurePosixPath("/tmp"), sub_path="tmp"))  # noqa: S108 - a volume
    return Volume("scratch", {"emptyDir": {"sizeLimit": str(size)}}, places, read_only=False)


def models_volume(size: Quantity, *, read_only: bool) -> Volume:
    """Verified files for another container of the pod: one writes, the other only reads."""
    source: Manifest = {"emptyDir": {"sizeLimit": str(size)}}
    return Volume("models", source, (Mount(mounts.MODELS_DIRECTORY),), read_only=read_only)


def shared_memory_volume() -> Volume:
    """Room for data loaders and collectives; the container runtime's own /dev/shm has 64 MiB."""
    source: Manifest = {"emptyDir": {"medium": "Memory"}}
    return Volume("shared-memory", source, (Mount(PurePosixPath("/dev/shm")),), read_only=False)  # noqa: S108 - a volume
