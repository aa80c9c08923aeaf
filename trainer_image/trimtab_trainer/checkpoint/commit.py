"""Committing one snapshot: files first, manifest last, read back before it counts."""

import logging
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from tenacity import (
    RetryCallState,
    Retrying,
    sleep_using_event,
    stop_after_delay,
    stop_any,
    stop_when_event_set,
    wait_random_exponential,
)

from trimtab_trainer.checkpoint.chain import StoredCheckpoint
from trimtab_trainer.checkpoint.reader import DOCUMENT_PATH, SHARD_PATH, manifest_echo
from trimtab_trainer.checkpoint.snapshot import SnapshotBuffer
from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.manifests import (
    CheckpointManifest,
    FileEntry,
    canonical_json,
    checkpoint_prefix,
    config_sha256,
    job_prefix,
    manifest_key,
    parse_manifest_key,
    sha256_hex,
)
from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.store.errors import ObjectExistsError
from trimtab_trainer.store.object_store import ObjectStore
from trimtab_trainer.store.transfer import MIB, Bytes

READ_BACK_LIMIT_BYTES = 1024 * MIB
"""Up to this size a checkpoint is read back and hashed before it counts as committed; above, sizes are compared."""
PATIENCE_SECONDS = 600.0
"""How long a background upload outlasts an outage of the store before the attempt fails."""
ROTATION_SECONDS = 180.0
"""How long a denial is borne after writing has worked: rotated keys reach a pod a minute or two after the store knows them."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Snapshot:
    """A state that waits to be uploaded."""

    buffer: SnapshotBuffer
    document: bytes
    """JSON, made when the snapshot was taken: what it describes has moved on since."""
    step: int
    metrics: dict[str, float]


class _CorruptedUploadError(TrainerError):
    """The store does not give back what was sent. Trying the same again proves nothing."""


class CheckpointCommitter:
    """Uploads and commits the snapshots of one attempt."""

    def __init__(self, store: ObjectStore, config: RunConfig, *, world_size: int, closing: threading.Event) -> None:
        """Check that the store can be written to; `closing` ends waiting for a store that is away."""
        self._store, self._config, self._world_size = store, config, world_size
        self._patiently = Retrying(
            retry=_may_pass,
            stop=stop_any(stop_after_delay(PATIENCE_SECONDS), stop_when_event_set(closing)),
            wait=wait_random_exponential(multiplier=1, max=30),
            sleep=sleep_using_event(closing),
            before_sleep=_log_delay,
            reraise=True,
        )
        check = f"{job_prefix(config.store, config.job)}/probe/write-check-a{config.attempt}"
        store.put(check, b"Trimtab may write here.")
        store.delete(check)

    def commit(self, snapshot: Snapshot, *, parent: str | None) -> StoredCheckpoint:
        """Make a snapshot a checkpoint, the child of another.

        Args:
            snapshot: what to upload; its buffer must not change meanwhile.
            parent: SHA-256 of the parent's manifest.

        Raises:
            TrainerError: `StorageUnavailable` after PATIENCE_SECONDS, or when the store gives back other bytes than it got;
                `Interrupted` when a newer attempt has taken over; and what the store raises at once.
        """
        started = time.perf_counter()
        config = self._config
        manifest = self._describe(snapshot, parent)
        echo = canonical_json(manifest_echo(manifest))
        state = b'{"document":' + snapshot.document + b',"manifest":' + echo + b"}"
        files = [
            self._patiently(self._upload, snapshot.step, path, pieces)
            for path, pieces in ((SHARD_PATH, snapshot.buffer.pieces()), (DOCUMENT_PATH, [state]))
        ]
        manifest = manifest.model_copy(update={"files": files})
        key, data = (
            manifest_key(config.store, config.job, attempt=config.attempt, step=snapshot.step),
            manifest.to_bytes(),
        )
        self._patiently(self._refuse_when_taken_over)
        self._patiently(self._store.put, key, data, if_absent=True)
        self._patiently(self._verify, key, data, manifest)
        stored = StoredCheckpoint(key, self._store.uri(key), manifest, sha256_hex(data))
        size, seconds = stored.committed().bytes, time.perf_counter() - started
        _logger.info("checkpoint_committed step=%d bytes=%d seconds=%.2f", snapshot.step, size, seconds)
        return stored

    def is_taken_over(self) -> bool:
        """Whether a newer attempt has committed."""
        keys = self._store.list(f"{job_prefix(self._config.store, self._config.job)}/manifests/")
        places = (parse_manifest_key(info.key) for info in keys)
        return any(place is not None and place[1] > self._config.attempt for place in places)

    def _refuse_when_taken_over(self) -> None:
        # The attempt number is the fence; this lets a zombie see it. Readers ignore its commits even where it is too late.
        if self.is_taken_over():
            raise TrainerError(
                TrainerReason.INTERRUPTED,
                f"attempt {self._config.attempt} ends: a newer attempt of this job has committed checkpoints.",
            )

    def _describe(self, snapshot: Snapshot, parent: str | None) -> CheckpointManifest:
        return CheckpointManifest(
            job=self._config.job,
            attempt=self._config.attempt,
            step=snapshot.step,
            world_size=self._world_size,
            parent=parent,
            files=[],
            config_sha256=config_sha256(self._config),
            metrics=snapshot.metrics,
            created_at=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        )

    def _upload(self, step: int, path: str, pieces: Sequence[Bytes]) -> FileEntry:
        prefix = checkpoint_prefix(self._config.store, self._config.job, attempt=self._config.attempt, step=step)
        key = f"{prefix}/{path}"
        try:
            sha256 = self._store.upload(pieces, key, if_absent=True)
        except ObjectExistsError:
            # A process of this attempt died between files and manifest. What it left is nobody's, yet never overwritten.
            key = f"{prefix}/{uuid.uuid4().hex[:8]}/{path}"
            sha256 = self._store.upload(pieces, key, if_absent=True)
        return FileEntry(key=key, path=path, size=sum(len(piece) for piece in pieces), sha256=sha256)

    def _verify(self, key: str, data: bytes, manifest: CheckpointManifest) -> None:
        whole = sum(file.size for file in manifest.files) <= READ_BACK_LIMIT_BYTES
        intact = self._store.get(key) == data
        for file in manifest.files:
            info = self._store.head(file.key)
            intact = intact and info is not None and info.size == file.size
            intact = intact and (not whole or self._store.read_sha256(file.key) == file.sha256)
        if not intact:
            raise _CorruptedUploadError(
                TrainerReason.STORAGE_UNAVAILABLE,
                f"StorageProfile '{self._config.store.profile}': the store does not give back what was written to "
                f"{self._store.uri(key)}. Check the store's disks.",
            )


def _may_pass(state: RetryCallState) -> bool:
    error = state.outcome.exception() if state.outcome else None
    if not isinstance(error, TrainerError) or isinstance(error, _CorruptedUploadError):
        return False
    if error.reason == TrainerReason.STORAGE_ACCESS_DENIED:
        return (state.seconds_since_start or 0) < ROTATION_SECONDS
    return error.reason == TrainerReason.STORAGE_UNAVAILABLE


def _log_delay(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    _logger.warning("checkpoint_delayed tries=%d why=%s", state.attempt_number, error)
