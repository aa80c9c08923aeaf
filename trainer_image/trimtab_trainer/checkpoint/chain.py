"""Which checkpoint is the right one: the order of resumption, worked out from manifests alone."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from trimtab_trainer.contract.manifests import CheckpointManifest
from trimtab_trainer.contract.messages import CommittedCheckpoint


@dataclass(frozen=True)
class StoredCheckpoint:
    """A manifest as it lies in the store."""

    key: str
    uri: str
    manifest: CheckpointManifest
    sha256: str
    """SHA-256 of the manifest's bytes, 64 hex digits: what a child names as its parent."""

    @property
    def rank(self) -> tuple[int, int]:
        """Newer is greater: an attempt outranks every step of the attempts before it."""
        return self.manifest.attempt, self.manifest.step

    def committed(self) -> CommittedCheckpoint:
        """As it is reported to the operator."""
        return CommittedCheckpoint(
            step=self.manifest.step,
            attempt=self.manifest.attempt,
            uri=self.uri,
            manifest_sha256=self.sha256,
            bytes=sum(file.size for file in self.manifest.files),
            time=self.manifest.created_at,
            metrics=self.manifest.metrics,
        )


def resume_order(stored: Iterable[StoredCheckpoint]) -> list[StoredCheckpoint]:
    """All checkpoints in the order in which a resume tries them.

    1. The newest one of the highest attempt that has any. An attempt number is raised before its pod exists, so whatever
       an older attempt commits later is a zombie's, however high its step.
    2. Its ancestors, newest first (see `history`).
    3. What is left, beginning again at 1. Such a checkpoint lies beside the chain, a zombie's for example, but it was
       committed by this very run: after everything in the chain has failed to verify it beats starting from nothing.
    """
    left = {checkpoint.sha256: checkpoint for checkpoint in stored}
    order: list[StoredCheckpoint] = []
    while left:
        newest = max(left.values(), key=lambda checkpoint: checkpoint.rank)
        order += history(newest, left.values())
        left = {sha256: checkpoint for sha256, checkpoint in left.items() if checkpoint not in order}
    return order


def history(head: StoredCheckpoint, stored: Iterable[StoredCheckpoint]) -> Iterator[StoredCheckpoint]:
    """A checkpoint and its ancestors, newest first.

    Retention leaves gaps: the best checkpoint stays, those after it go. Where a parent is missing, the walk goes on at the
    newest checkpoint with a lower step and no higher attempt, which is the next ancestor, or one that a zombie
    committed before that step.
    """
    by_sha256 = {checkpoint.sha256: checkpoint for checkpoint in stored}
    current: StoredCheckpoint | None = head
    while current is not None:
        by_sha256.pop(current.sha256, None)
        yield current
        attempt, step = current.rank
        older = [
            other for other in by_sha256.values() if other.manifest.attempt <= attempt and other.manifest.step < step
        ]
        parent = by_sha256.get(current.manifest.parent or "")
        current = parent if parent in older else max(older, key=lambda other: other.rank, default=None)
