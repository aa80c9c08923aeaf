"""Publishing a model: files first, manifest last, everything read back. Versions are written once."""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path

from pydantic import ValidationError

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.manifests import (
    BaseModelRef,
    FileEntry,
    Lineage,
    ModelManifest,
    config_sha256,
    model_prefix,
    sha256_hex,
)
from trimtab_trainer.contract.messages import ModelSignature, PublishedModel, VersionReply
from trimtab_trainer.contract.methods import ADAPTER_FORMATS, PublishedFormat
from trimtab_trainer.contract.run_config import ResolvedDataset, RunConfig
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.fetch.base_model import base_source
from trimtab_trainer.publishing.signature import SIGNATURE_PATH, SignatureError, SigningKey, verify
from trimtab_trainer.store.errors import ObjectExistsError, ObjectNotFoundError
from trimtab_trainer.store.object_store import ObjectStore

MANIFEST_PATH = "manifest.json"
DELETED_PATH = "deleted.json"
"""At the place of a version whose bytes were deleted: its number is not used again."""
_FORBIDDEN_SUFFIXES = (".bin", ".pt", ".pth", ".pkl", ".ckpt", ".py")
_MAX_TAKEN = 64
_PARALLEL_FILES = 4
OWNER_KEY = "trimtab-job"
"""User metadata: uid of the job, or of the imported version, that wrote an object."""
_ATTEMPT = "trimtab-attempt"

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelOrigin:
    """Where a model comes from, as far as the RunConfig does not say it."""

    base_model_digest: str
    datasets: Sequence[ResolvedDataset]
    metrics: dict[str, float]
    step: int
    format: PublishedFormat


class _TakenError(Exception):
    """The version's place in the store holds something that is not ours."""


def publish(
    directory: Path,
    *,
    store: ObjectStore,
    config: RunConfig,
    reserve: Callable[[list[int]], VersionReply],
    origin: ModelOrigin,
    key: SigningKey | None = None,
) -> PublishedModel:
    """Publish every file of a directory as the next version of the job's model.

    A place that holds a manifest of somebody else, or files of somebody else, is left alone, and another version is asked
    for. A manifest of this very job is the result of an attempt that crashed after it had published: it is verified and
    returned as it is. Files without a manifest that an older attempt of this job left are replaced.

    Args:
        directory: what to publish: weights, configuration, README.md, provenance.json. `manifest.json` is made here.
        store: where to.
        config: the run.
        reserve: asks the operator for a version, given those that turned out to be taken.
        origin: lineage and metrics.
        key: signs the manifest. None: no signature.

    Raises:
        TrainerError: the store's errors; `StorageUnavailable` when it does not give back what was written.
    """
    paths = _files_of(directory)
    taken: list[int] = []
    while len(taken) < _MAX_TAKEN:
        reply = reserve(list(taken))
        place = _Place(store, config, reply)
        try:
            manifest = place.published() or place.publish(directory, paths, origin, key)
            return place.report(manifest, place.signature(manifest, key) if key else None)
        except _TakenError as error:
            _logger.warning("version_taken version=%d why=%s", reply.version, error)
            taken.append(reply.version)
    raise TrainerError(
        TrainerReason.TRAINER_ERROR,
        f"{_MAX_TAKEN} versions of '{config.output.model_name}' hold other models already; choose another `output.modelName`.",
    )


class _Place:
    """One version's prefix in the store."""

    def __init__(self, store: ObjectStore, config: RunConfig, reply: VersionReply) -> None:
        self._store, self._config, self._reply = store, config, reply
        self._prefix = model_prefix(
            config.store, namespace=config.job.namespace, model_name=config.output.model_name, version=reply.version
        )
        self._manifest_key = f"{self._prefix}/{MANIFEST_PATH}"
        self._signature_key = f"{self._prefix}/{SIGNATURE_PATH}"
        self._mark = {OWNER_KEY: config.job.uid, _ATTEMPT: str(config.attempt)}

    def published(self) -> ModelManifest | None:
        """The manifest that an earlier attempt of this job committed here; None where the place is free."""
        try:
            data = self._store.get(self._manifest_key)
        except ObjectNotFoundError:
            if self._store.head(f"{self._prefix}/{DELETED_PATH}") is not None:
                raise _TakenError("a version was deleted here") from None
            return None
        try:
            manifest = ModelManifest.parse(data)
        except ValidationError as error:
            raise _TakenError("it holds a manifest that is not ours") from error
        if manifest.lineage.job != self._config.job:
            raise _TakenError(f"it holds a model of the job {manifest.lineage.job.name} ({manifest.lineage.job.uid})")
        if not self._intact(manifest):
            raise _TakenError("an earlier attempt published here, and the bytes were changed since")
        _logger.info("model_already_published uri=%s", self._store.uri(self._prefix))
        return manifest

    def publish(
        self, directory: Path, paths: Sequence[str], origin: ModelOrigin, key: SigningKey | None
    ) -> ModelManifest:
        """Upload, sign, commit, read back."""
        # The first file alone: it shows whether somebody else is publishing here, before anything else is written.
        files = [self._upload(directory, paths[0])]
        with ThreadPoolExecutor(_PARALLEL_FILES, thread_name_prefix="publish") as pool:
            files += pool.map(lambda path: self._upload(directory, path), paths[1:])
        self._remove_leftovers(files)
        manifest = self._describe(files, origin)
        if key is not None:
            # Before the manifest: a committed version that should be signed is.
            self._store.put(self._signature_key, key.sign(manifest), metadata=self._mark)
        try:
            self._store.put(self._manifest_key, manifest.to_bytes(), if_absent=True)
        except ObjectExistsError as error:
            raise _TakenError("another process published here at the same time") from error
        if not self._intact(manifest):
            raise TrainerError(
                TrainerReason.STORAGE_UNAVAILABLE,
                f"StorageProfile '{self._config.store.profile}': the store does not give back what was written to {self._store.uri(self._prefix)}.",
            )
        return manifest

    def signature(self, manifest: ModelManifest, key: SigningKey) -> ModelSignature:
        """What lies beside the manifest, read back and verified; made anew where it does not hold by this key."""
        sha256 = sha256_hex(manifest.to_bytes())
        try:
            return verify(self._store.get(self._signature_key), sha256, [key.public_pem])
        except (ObjectNotFoundError, SignatureError) as error:
            # An earlier attempt published with another key, or before the job's key was there.
            _logger.warning("signed_again version=%d why=%s", manifest.version, error)
        self._store.put(self._signature_key, key.sign(manifest), metadata=self._mark)
        return verify(self._store.get(self._signature_key), sha256, [key.public_pem])

    def report(self, manifest: ModelManifest, signature: ModelSignature | None) -> PublishedModel:
        """What the operator makes a ModelVersion of."""
        return PublishedModel(
            name=self._reply.name,
            version=self._reply.version,
            uri=self._store.uri(self._prefix),
            manifest_sha256=sha256_hex(manifest.to_bytes()),
            size_bytes=sum(file.size for file in manifest.files),
            files=len(manifest.files),
            format=manifest.format,
            base_model_digest=manifest.base_model.digest,
            config_digest=manifest.lineage.config_digest,
            step=manifest.lineage.step,
            verified_at=_now(),
            signature=signature,
        )

    def _upload(self, directory: Path, path: str) -> FileEntry:
        key, local = f"{self._prefix}/{path}", directory / path
        try:
            sha256 = self._store.upload_file(local, key, if_absent=True, metadata=self._mark)
        except ObjectExistsError as error:
            if not self._left_by_older_attempt(key):
                raise _TakenError(f"{key} holds a file of somebody else") from error
            sha256 = self._store.upload_file(local, key, metadata=self._mark)
        return FileEntry(key=key, path=path, size=local.stat().st_size, sha256=sha256)

    def _left_by_older_attempt(self, key: str) -> bool:
        info = self._store.head(key)
        mark = dict(info.metadata) if info else {}
        attempt = mark.get(_ATTEMPT, "")
        # The attempt is compared too, so that a zombie never replaces what its successor writes.
        return (
            mark.get(OWNER_KEY) == self._config.job.uid and attempt.isdecimal() and int(attempt) <= self._config.attempt
        )

    def _remove_leftovers(self, files: Sequence[FileEntry]) -> None:
        ours = {file.key for file in files}
        for info in self._store.list(f"{self._prefix}/"):
            if info.key not in ours and self._left_by_older_attempt(info.key):
                self._store.delete(info.key)

    def _describe(self, files: Sequence[FileEntry], origin: ModelOrigin) -> ModelManifest:
        config, parent = self._config, self._config.model_version
        base_uri = base_source(config).uri if origin.format in ADAPTER_FORMATS else config.model.uri
        return ModelManifest(
            model_name=config.output.model_name,
            version=self._reply.version,
            format=origin.format,
            base_model=BaseModelRef(uri=base_uri, digest=origin.base_model_digest),
            lineage=Lineage(
                job=config.job,
                attempt=config.attempt,
                step=origin.step,
                datasets=list(origin.datasets),
                config_digest=f"sha256:{config_sha256(config)}",
                image=config.image,
                parent_version=parent.name if parent else "",
            ),
            files=list(files),
            metrics={name: value for name, value in origin.metrics.items() if isfinite(value)},
            created_at=_now(),
        )

    def _intact(self, manifest: ModelManifest) -> bool:
        try:
            if self._store.get(self._manifest_key) != manifest.to_bytes():
                return False
            return all(self._store.read_sha256(file.key) == file.sha256 for file in manifest.files)
        except ObjectNotFoundError:
            return False


def _files_of(directory: Path) -> list[str]:
    paths = sorted(path for path in directory.rglob("*") if path.is_file())
    names = [path.relative_to(directory).as_posix() for path in paths]
    for path, name in zip(paths, names, strict=True):
        if (
            path.is_symlink()
            or name.endswith(_FORBIDDEN_SUFFIXES)
            or name in (MANIFEST_PATH, SIGNATURE_PATH, DELETED_PATH)
        ):
            raise TrainerError(
                TrainerReason.TRAINER_ERROR,
                f"'{name}' must not be published: only plain files, and neither pickles nor code.",
            )
    if not names:
        raise TrainerError(TrainerReason.TRAINER_ERROR, f"there is nothing to publish in {directory}.")
    return names


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
