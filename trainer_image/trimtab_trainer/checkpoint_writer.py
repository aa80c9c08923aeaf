"""Saving while training goes on: a snapshot stops the loop for milliseconds, a thread uploads and commits it."""

import logging
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite
from typing import Any

from tenacity import (
    Retrying,
    retry_if_exception,
    sleep_using_event,
    stop_after_delay,
    stop_any,
    stop_when_event_set,
    wait_random_exponential,
)

from trimtab_trainer import retention
from trimtab_trainer.checkpoint_chain import StoredCheckpoint
from trimtab_trainer.checkpoint_reader import DOCUMENT_PATH, SHARD_PATH, LoadedCheckpoint, manifest_echo, read_manifests
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
from trimtab_trainer.contract.messages import MAX_REPORTED_CHECKPOINTS, CommittedCheckpoint, RejectedCheckpoint
from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.snapshot import SnapshotBuffer, signature_of
from trimtab_trainer.store import MIB, Bytes, ObjectStore
from trimtab_trainer.store_errors import ObjectExistsError

DOUBLE_BUFFER_LIMIT_BYTES = 2048 * MIB
"""States larger than this get one snapshot buffer: host memory is dearer than a wait."""
READ_BACK_LIMIT_BYTES = 1024 * MIB
"""Up to this size a checkpoint is read back and hashed before it counts as committed; above, sizes are compared."""
PATIENCE_SECONDS = 600.0
"""How long a background upload outlasts an outage of the store before the attempt fails."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Snapshot:
    """A state that waits to be uploaded."""

    buffer: SnapshotBuffer
    document: Mapping[str, Any]
    step: int
    metrics: dict[str, float]


class _CorruptedUploadError(TrainerError):
    """The store does not give back what was sent. Trying the same again proves nothing."""


class CheckpointWriter:
    """Commits the checkpoints of one attempt, each a child of the one before, the first a child of what was resumed.

    `save` copies the state into a buffer and returns. One thread uploads the files, writes the manifest last, reads it all
    back and only then counts the checkpoint as committed and lets retention delete older ones.

    When `save` comes while an upload runs, the snapshot waits in a second buffer. When another one waits there already, the
    newer replaces it, so the newest is never lost and uploads never fall behind by more than one; but a waiting snapshot
    that would be the best so far is not replaced: then `save` blocks until its upload has begun.

    In a run of several processes with replicated state, rank 0 alone makes one.
    """

    def __init__(
        self,
        store: ObjectStore,
        config: RunConfig,
        *,
        parent: LoadedCheckpoint | None,
        rejected: Sequence[RejectedCheckpoint] = (),
        world_size: int = 1,
    ) -> None:
        """Check that the store can be written to.

        Args:
            store: where to.
            config: the run.
            parent: what `load_latest` returned: this attempt continues from it.
            rejected: what `load_latest` refused; it is never deleted.
            world_size: processes that train together.

        Raises:
            TrainerError: `StorageAccessDenied` when the credentials may read but not write or delete.
        """
        self._store, self._config, self._world_size = store, config, world_size
        self._rejected = rejected
        self._parent_sha256 = parent.manifest_sha256 if parent else None
        self._chain: list[StoredCheckpoint] = [*reversed(parent.ancestors), parent.stored] if parent else []
        self._accepted_step = parent.step if parent else -1
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._free: list[SnapshotBuffer] = []
        self._busy = 0
        self._running: _Snapshot | None = None
        self._waiting: _Snapshot | None = None
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        self.stall_seconds = 0.0
        """How long `save` has kept the training loop waiting, in total."""
        check = f"{job_prefix(config.store, config.job)}/probe/write-check-a{config.attempt}"
        store.put(check, b"Trimtab may write here.")
        store.delete(check)

    @property
    def committed(self) -> list[CommittedCheckpoint]:
        """The newest checkpoints that are in the store now, oldest first, those of earlier attempts too."""
        with self._changed:
            return [checkpoint.committed() for checkpoint in self._chain[-MAX_REPORTED_CHECKPOINTS:]]

    @property
    def best(self) -> CommittedCheckpoint | None:
        """The best checkpoint in the store by `training.selectBestBy`; None where none carries the metric."""
        with self._changed:
            ranked = retention.best_first(self._chain, self._config)
        return ranked[0].committed() if ranked else None

    def save(
        self, tensors: Mapping[str, Any], document: Mapping[str, Any], *, step: int, metrics: Mapping[str, float]
    ) -> float:
        """Take a snapshot and have it committed in the background.

        Args:
            tensors: everything that is a tensor, on any device, by name. Its types and shapes should stay the same.
            document: everything else, as JSON.
            step: optimizer steps done. A step that was accepted already, or that was resumed from, is not saved again.
            metrics: newest metrics, for `keepBest`; those that are not finite are left out.

        Returns:
            Seconds that the caller was kept waiting.

        Raises:
            TrainerError: an earlier upload has failed for good; or `Interrupted`, a newer attempt has taken over.
        """
        started = time.perf_counter()
        self._raise_error()
        if step == self._accepted_step:
            return 0.0
        canonical_json(document)  # What cannot be written must fail here, where the caller can see why.
        buffer = self._take_buffer(tensors)
        try:
            buffer.copy_from(tensors)
        except BaseException:
            self._give_back(buffer)
            raise
        finite = {name: float(value) for name, value in metrics.items() if isfinite(value)}
        with self._changed:
            self._waiting = _Snapshot(buffer, document, step, finite)
            self._accepted_step = step
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="checkpoint-upload", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        stall = time.perf_counter() - started
        self.stall_seconds += stall
        return stall

    def wait(self, timeout: float | None = None) -> None:
        """Block until everything accepted so far is committed.

        Args:
            timeout: seconds, for example what is left of the grace period.

        Raises:
            TrainerError: the upload failed, or (`StorageUnavailable`) it was not done in time.
        """
        with self._changed:
            done = self._changed.wait_for(lambda: self._error or not (self._waiting or self._running), timeout)
        self._raise_error()
        if not done:
            raise TrainerError(
                TrainerReason.STORAGE_UNAVAILABLE,
                f"the checkpoint of step {self._accepted_step} was not uploaded in {timeout:.0f} s",
            )

    def finish(self) -> None:
        """After the model is published: commit what is left, keep what `keepLast` and `keepBest` ask for, sweep the rest."""
        self.wait()
        if not self._taken_over():
            self._retire(finished=True)
            try:
                stored, _ = read_manifests(self._store, self._config)
                beside = retention.not_in_chain(stored, self._config, chain=self._chain, rejected=self._rejected)
                retention.sweep(self._store, self._config, chain=self._chain, beside=beside)
            except TrainerError as error:
                _logger.warning("checkpoints_not_swept why=%s", error)
        self.close()

    def close(self) -> None:
        """Stop without waiting: what is not committed by now stays uncommitted."""
        self._closing.set()
        with self._changed:
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout=5)

    # Buffers

    def _take_buffer(self, tensors: Mapping[str, Any]) -> SnapshotBuffer:
        signature = signature_of(tensors)
        with self._changed:
            while True:
                self._raise_error()
                self._free = [buffer for buffer in self._free if buffer.signature == signature]
                if self._free:
                    self._busy += 1
                    return self._free.pop()
                if self._busy < self._buffer_limit():
                    self._busy += 1
                    break
                self._drop_waiting()
                if not self._free:
                    self._changed.wait()
        try:
            return SnapshotBuffer.for_state(signature, tensors)
        except BaseException:
            self._busy -= 1
            raise

    def _buffer_limit(self) -> int:
        in_use = self._running or self._waiting
        return 1 if in_use and in_use.buffer.size > DOUBLE_BUFFER_LIMIT_BYTES else 2

    def _drop_waiting(self) -> None:
        waiting = self._waiting
        if waiting is None or retention.improves(waiting.metrics, self._chain, self._config):
            return
        _logger.info("checkpoint_superseded step=%d", waiting.step)
        self._waiting = None
        self._busy -= 1
        self._free.append(waiting.buffer)

    def _give_back(self, buffer: SnapshotBuffer) -> None:
        with self._changed:
            self._busy -= 1
            self._free.append(buffer)
            self._changed.notify_all()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    # The thread

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing.is_set())
                if self._closing.is_set():
                    return
                snapshot, self._waiting = self._waiting, None
                self._running = snapshot
                self._changed.notify_all()
            assert snapshot is not None  # noqa: S101 - waited for above
            try:
                committed = self._commit(snapshot)
                with self._changed:
                    self._chain.append(committed)
                self._retire(finished=False)
            except BaseException as error:  # noqa: BLE001 - raised again by the next save() or wait()
                self._error = error
                return
            finally:
                self._give_back(snapshot.buffer)
                with self._changed:
                    self._running = None
                    self._changed.notify_all()

    def _commit(self, snapshot: _Snapshot) -> StoredCheckpoint:
        started = time.perf_counter()
        patiently = Retrying(
            retry=retry_if_exception(_may_pass),
            stop=stop_any(stop_after_delay(PATIENCE_SECONDS), stop_when_event_set(self._closing)),
            wait=wait_random_exponential(multiplier=1, max=30),
            sleep=sleep_using_event(self._closing),
            before_sleep=lambda state: _logger.warning(
                "checkpoint_delayed step=%d why=%s", snapshot.step, state.outcome.exception()
            ),
            reraise=True,
        )
        key = manifest_key(self._config.store, self._config.job, attempt=self._config.attempt, step=snapshot.step)
        manifest = self._describe(snapshot)
        state = canonical_json({"document": snapshot.document, "manifest": manifest_echo(manifest)})
        files = [
            patiently(self._upload, snapshot.step, path, pieces)
            for path, pieces in ((SHARD_PATH, snapshot.buffer.pieces()), (DOCUMENT_PATH, [state]))
        ]
        manifest = manifest.model_copy(update={"files": files})
        data = manifest.to_bytes()
        patiently(self._refuse_when_taken_over)
        patiently(self._store.put, key, data, if_absent=True)
        patiently(self._verify, key, data, manifest)
        committed = StoredCheckpoint(key, self._store.uri(key), manifest, sha256_hex(data))
        self._parent_sha256 = committed.sha256
        _logger.info(
            "checkpoint_committed step=%d bytes=%d seconds=%.2f",
            snapshot.step,
            committed.committed().bytes,
            time.perf_counter() - started,
        )
        return committed

    def _describe(self, snapshot: _Snapshot) -> CheckpointManifest:
        return CheckpointManifest(
            job=self._config.job,
            attempt=self._config.attempt,
            step=snapshot.step,
            world_size=self._world_size,
            parent=self._parent_sha256,
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
            # A process of this attempt died between files and manifest. Its files are nobody's, but they are not overwritten.
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
                f"StorageProfile '{self._config.store.profile}': the store does not give back what was written to {self._store.uri(key)}.",
            )

    def _taken_over(self) -> bool:
        places = (
            parse_manifest_key(info.key)
            for info in self._store.list(f"{job_prefix(self._config.store, self._config.job)}/manifests/")
        )
        return any(place is not None and place[1] > self._config.attempt for place in places)

    def _refuse_when_taken_over(self) -> None:
        # The attempt number is the fence; this lets a zombie see it. Readers ignore its commits even where it comes too late.
        if self._taken_over():
            raise TrainerError(
                TrainerReason.INTERRUPTED,
                f"attempt {self._config.attempt} ends: a newer attempt of this job has committed checkpoints.",
            )

    def _retire(self, *, finished: bool) -> None:
        with self._changed:
            leaving = retention.expendable(self._chain, self._config, finished=finished)
        for checkpoint in leaving:
            if retention.delete_checkpoint(self._store, checkpoint):
                with self._changed:
                    self._chain.remove(checkpoint)


def _may_pass(error: BaseException) -> bool:
    return (
        isinstance(error, TrainerError)
        and error.reason == TrainerReason.STORAGE_UNAVAILABLE
        and not isinstance(error, _CorruptedUploadError)
    )
