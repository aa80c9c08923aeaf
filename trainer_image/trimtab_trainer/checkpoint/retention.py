"""What may leave the store, and how: manifest first, then files, and never the last thing that is known to be good."""

import logging
import re
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta

from trimtab_trainer.checkpoint.chain import StoredCheckpoint
from trimtab_trainer.contract.manifests import job_prefix, parse_manifest_key
from trimtab_trainer.contract.messages import RejectedCheckpoint
from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.contract.spec import SelectBestBy
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.store.object_store import ObjectStore

ORPHAN_AGE = timedelta(hours=24)
"""Leftovers of an attempt newer than ours may still be in use; older than this they are not."""

_logger = logging.getLogger(__name__)
_FILE_KEY = re.compile(r"a(\d+)/s(\d+)/")


def best_first(checkpoints: Sequence[StoredCheckpoint], config: RunConfig) -> list[StoredCheckpoint]:
    """The checkpoints that carry the metric of `training.selectBestBy`, best first; of equals the older one."""
    selection = config.training.select_best_by or SelectBestBy()
    sign = 1.0 if selection.mode == "min" else -1.0
    measured = [checkpoint for checkpoint in checkpoints if selection.metric in checkpoint.manifest.metrics]
    return sorted(measured, key=lambda checkpoint: sign * checkpoint.manifest.metrics[selection.metric])


def expendable(chain: Sequence[StoredCheckpoint], config: RunConfig) -> list[StoredCheckpoint]:
    """The checkpoints of a run that its retention settings no longer ask for, oldest first.

    Args:
        chain: what is in the store, oldest first; the last one was verified by reading it.
        config: `checkpoints.keepLast`, `checkpoints.keepBest` and `training.selectBestBy`.
    """
    kept = {checkpoint.sha256 for checkpoint in chain[-config.checkpoints.keep_last :]}
    kept |= {checkpoint.sha256 for checkpoint in best_first(chain, config)[: config.checkpoints.keep_best]}
    return [checkpoint for checkpoint in chain if checkpoint.sha256 not in kept]


def delete_checkpoint(store: ObjectStore, checkpoint: StoredCheckpoint) -> bool:
    """Remove one checkpoint, its manifest first: a reader never sees a manifest whose files are going.

    Returns:
        Whether the manifest is gone. Cleaning up never ends a job: what stays behind is logged and swept later.
    """
    try:
        store.delete(checkpoint.key)
    except TrainerError as error:
        _logger.warning("checkpoint_not_deleted uri=%s why=%s", checkpoint.uri, error)
        return False
    attempt, step = checkpoint.rank
    # Its own folder, whatever keys the manifest names: a damaged one must not delete anything else.
    folder = f"{checkpoint.key.rpartition('/manifests/')[0]}/a{attempt}/s{step}/"
    try:
        for info in list(store.list(folder)):
            store.delete(info.key)
    except TrainerError as error:
        _logger.warning("checkpoint_files_not_deleted uri=%s why=%s", checkpoint.uri, error)
    _logger.info("checkpoint_deleted uri=%s", checkpoint.uri)
    return True


def sweep(
    store: ObjectStore,
    config: RunConfig,
    *,
    beside: Sequence[StoredCheckpoint],
    now: datetime | None = None,
) -> int:
    """Remove what no manifest names any more, when a job has finished; the number of objects.

    Files without a manifest go when they are this attempt's or an older one's, which are dead; those of a newer attempt
    only after 24 hours, and what it is uploading now is its own. Checkpoints beside the chain go too, but for damaged ones,
    which stay for whoever looks into it.

    Args:
        store: where.
        config: whose.
        beside: readable manifests of older attempts that are not in the chain and were not found damaged.
        now: the time, for the age of what a newer attempt left.
    """
    moment = now or datetime.now(UTC)
    for checkpoint in beside:
        delete_checkpoint(store, checkpoint)
    base = f"{job_prefix(config.store, config.job)}/"
    committed = {parse_manifest_key(info.key) for info in store.list(f"{base}manifests/")}
    removed = len(beside)
    for info in store.list(f"{base}a"):
        place = _place(info.key, base)
        if place is None or place in committed:
            continue
        if place[1] <= config.attempt or info.modified < moment - ORPHAN_AGE:
            store.delete(info.key)
            removed += 1
    for info in store.list(f"{base}probe/"):
        store.delete(info.key)

    def is_dead(key: str) -> bool:
        place = _place(key, base)
        return place is not None and place[1] <= config.attempt

    removed += store.abort_uploads(f"{base}a", older_than=moment, dead=is_dead)
    _logger.info("checkpoints_swept objects=%d", removed)
    return removed


def _place(key: str, base: str) -> tuple[int, int] | None:
    """Step and attempt of a checkpoint's file."""
    found = _FILE_KEY.match(key.removeprefix(base))
    return (int(found[2]), int(found[1])) if found else None


def not_in_chain(
    stored: Collection[StoredCheckpoint],
    config: RunConfig,
    *,
    chain: Sequence[StoredCheckpoint],
    rejected: Sequence[RejectedCheckpoint],
) -> list[StoredCheckpoint]:
    """Intact checkpoints of older attempts beside the chain: what zombies and abandoned branches left."""
    in_chain = {checkpoint.key for checkpoint in chain}
    damaged = {(checkpoint.attempt, checkpoint.step) for checkpoint in rejected}
    return [
        checkpoint
        for checkpoint in stored
        if checkpoint.manifest.attempt < config.attempt
        and checkpoint.key not in in_chain
        and checkpoint.rank not in damaged
    ]
