"""Saving while training goes on: a snapshot stops the loop for milliseconds, a thread uploads and commits it."""

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from trimtab_trainer.checkpoint import retention
from trimtab_trainer.checkpoint.chain import StoredCheckpoint
from trimtab_trainer.checkpoint.commit import CheckpointCommitter, Snapshot
from trimtab_trainer.checkpoint.reader import LoadedCheckpoint, read_manifests
from trimtab_trainer.checkpoint.snapshot import SnapshotBuffer, signature_of, state_bytes
from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.manifests import canonical_json
from trimtab_trainer.contract.messages import MAX_REPORTED_CHECKPOINTS, CommittedCheckpoint, RejectedCheckpoint
from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.store.object_store import ObjectStore
from trimtab_trainer.store.transfer import MIB

DOUBLE_BUFFER_LIMIT_BYTES = 2048 * MIB
"""States larger than this get one snapshot buffer: host memory is dearer than a wait."""

_logger = logging.getLogger(__name__)


class CheckpointWriter:
    """Commits the checkpoints of one attempt, each a child of the one before, the first a child of what was resumed.

    `save` copies the state into a buffer and returns. One thread uploads the files, writes the manifest last, reads it all
    back and only then counts the checkpoint as committed and lets retention delete older ones.

    When `save` comes while an upload runs, the snapshot waits in a second buffer; when another one waits there already, the
    newer replaces it. So the newest is never lost, a slow store never stops training, and at most one upload is behind.

    In a run of several processes, rank 0 alone makes one; where weights are spread, the others `give_shares` at each save.
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
        self._store, self._config, self._rejected = store, config, rejected
        self._parent_sha256 = parent.manifest_sha256 if parent else None
        self._chain: list[StoredCheckpoint] = [*reversed(parent.ancestors), parent.stored] if parent else []
        self._accepted_step = parent.step if parent else -1
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._free: list[SnapshotBuffer] = []
        self._busy = 0
        self._running: Snapshot | None = None
        self._waiting: Snapshot | None = None
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        self.stall_seconds = 0.0
        """How long `save` has kept the training loop waiting, in total."""
        self._committer = CheckpointCommitter(store, config, world_size=world_size, closing=self._closing)

    @property
    def committed(self) -> list[CommittedCheckpoint]:
        """The newest checkpoints that are in the store now, oldest first, those of earlier attempts too."""
        with self._changed:
            return [checkpoint.committed() for checkpoint in self._chain[-MAX_REPORTED_CHECKPOINTS:]]

    def accepts(self, step: int) -> bool:
        """Whether `save` would take a snapshot of that step."""
        return step != self._accepted_step

    def save(
        self, tensors: Mapping[str, Any], document: Mapping[str, Any], *, step: int, metrics: Mapping[str, float]
    ) -> float:
        """Take a snapshot and have it committed in the background.

        Args:
            tensors: everything that is a tensor, on any device, by name. Its types and shapes may change, at the cost of a new header.
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
        if not self.accepts(step):
            return 0.0
        described = canonical_json(document)
        buffer = self._take_buffer(state_bytes(signature_of(tensors)))
        try:
            buffer.copy_from(tensors)
        except BaseException:
            self._give_back(buffer)
            raise
        finite = {name: float(value) for name, value in metrics.items() if isfinite(value)}
        with self._changed:
            self._waiting = Snapshot(buffer, described, step, finite)
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
        """After the model is published: commit what is left, and sweep what no attempt needs any more."""
        self.wait()
        try:
            if not self._committer.is_taken_over():
                stored, _ = read_manifests(self._store, self._config)
                beside = retention.not_in_chain(stored, self._config, chain=self._chain, rejected=self._rejected)
                retention.sweep(self._store, self._config, beside=beside)
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

    def _take_buffer(self, size: int) -> SnapshotBuffer:
        limit = 1 if size > DOUBLE_BUFFER_LIMIT_BYTES else 2
        with self._changed:
            while True:
                self._raise_error()
                if not self._free and self._busy < limit:
                    self._free.append(SnapshotBuffer())
                if not self._free:
                    self._drop_waiting()
                if self._free and self._busy < limit:
                    self._busy += 1
                    return self._free.pop()
                self._changed.wait()

    def _drop_waiting(self) -> None:
        waiting = self._waiting
        if waiting is None:
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
                committed = self._committer.commit(snapshot, parent=self._parent_sha256)
                with self._changed:
                    self._chain.append(committed)
                    self._parent_sha256 = committed.sha256
                self._retire()
            except BaseException as error:  # noqa: BLE001 - raised again by the next save() or wait()
                self._error = error
                return
            finally:
                self._give_back(snapshot.buffer)
                with self._changed:
                    self._running = None
                    self._changed.notify_all()

    def _retire(self) -> None:
        with self._changed:
            leaving = retention.expendable(self._chain, self._config)
        for checkpoint in leaving:
            if retention.delete_checkpoint(self._store, checkpoint):
                with self._changed:
                    self._chain.remove(checkpoint)
