"""Deleting a version's bytes: manifest first, then every file at its place. Doing it again gives the same.

A small mark stays, so that the number is not used again for other bytes.
"""

import logging
from datetime import UTC, datetime

from pydantic import ValidationError

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.manifests import ModelManifest, canonical_json, model_prefix, sha256_hex
from trimtab_trainer.contract.messages import TerminationMessage
from trimtab_trainer.contract.run_config import VersionDeletion, VersionJobConfig
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.publishing.publish import DELETED_PATH, MANIFEST_PATH, OWNER_KEY
from trimtab_trainer.publishing.signature import SIGNATURE_PATH
from trimtab_trainer.store.errors import ObjectNotFoundError
from trimtab_trainer.store.object_store import ObjectInfo, ObjectStore

_logger = logging.getLogger(__name__)


def delete(config: VersionJobConfig, version: VersionDeletion, store: ObjectStore) -> TerminationMessage:
    """Delete what was published as this version, or what an import that never was published has left.

    Raises:
        TrainerError: DigestMismatch where another manifest lies at its place, and the store's errors.
    """
    prefix = model_prefix(
        config.store, namespace=config.namespace, model_name=version.model_name, version=version.version
    )
    first = [f"{prefix}/{path}" for path in (MANIFEST_PATH, SIGNATURE_PATH)]
    mark = f"{prefix}/{DELETED_PATH}"
    if version.manifest_sha256:
        _check_manifest(first[0], version, store)
        store.put(mark, _mark(version))
        store.abort_uploads(f"{prefix}/", older_than=datetime.now(UTC))
        found = [info for info in store.list(f"{prefix}/") if info.key != mark]
    else:
        found = [info for info in store.list(f"{prefix}/") if _is_own(info, version, store)]
    for info in sorted(found, key=lambda info: (info.key not in first, info.key)):
        store.delete(info.key)
    size = sum(info.size for info in found)
    _logger.info("version_deleted uri=%s objects=%d bytes=%d", store.uri(prefix), len(found), size)
    message = f"{len(found)} objects of {size} bytes at {store.uri(prefix)} were deleted."
    return TerminationMessage(reason="Succeeded", message=message)


def _check_manifest(key: str, version: VersionDeletion, store: ObjectStore) -> None:
    """One that is gone is no obstacle: an earlier try began with it."""
    try:
        found = sha256_hex(store.get(key))
    except ObjectNotFoundError:
        return
    if found != version.manifest_sha256:
        raise TrainerError(
            TrainerReason.DIGEST_MISMATCH,
            f"{store.uri(key)} is not the manifest of {version.name}: it has sha256 {found}, the version {version.manifest_sha256}. "
            "Nothing was deleted: look who wrote there.",
        )


def _is_own(info: ObjectInfo, version: VersionDeletion, store: ObjectStore) -> bool:
    """Whether this very import wrote it; another model's files at the same place stay."""
    if info.key.endswith(f"/{MANIFEST_PATH}"):
        try:
            return ModelManifest.parse(store.get(info.key)).lineage.job.uid == version.uid
        except (ObjectNotFoundError, ValidationError):
            return False
    head = store.head(info.key)
    return head is not None and head.metadata.get(OWNER_KEY) == version.uid


def _mark(version: VersionDeletion) -> bytes:
    """What stays: which bytes were here."""
    return canonical_json(
        {"schema": "trimtab.dev/deleted/v1", "name": version.name, "manifestSha256": version.manifest_sha256}
    )
