"""Finding a checkpoint to resume from. Nothing is parsed before its SHA-256 is the one that the manifest names."""

import json
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors.torch import load_file

from trimtab_trainer.checkpoint.chain import StoredCheckpoint, history, resume_order
from trimtab_trainer.contract.manifests import (
    CheckpointManifest,
    config_sha256,
    job_prefix,
    parse_manifest_key,
    sha256_hex,
)
from trimtab_trainer.contract.messages import RejectedCheckpoint
from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.scratch_space import require_room
from trimtab_trainer.store.errors import ObjectNotFoundError
from trimtab_trainer.store.object_store import ObjectStore

DOCUMENT_PATH = "state.json"
SHARD_PATH = "shard-00000-of-00001.safetensors"

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A checkpoint whose every byte was compared with its manifest."""

    tensors: dict[str, Any]
    """On the CPU, types and values exactly as they were saved."""
    document: dict[str, Any]
    step: int
    attempt: int
    manifest: CheckpointManifest
    manifest_sha256: str
    stored: StoredCheckpoint
    ancestors: Sequence[StoredCheckpoint] = field(default_factory=tuple)
    """Older checkpoints of the same chain that are in the store, newest first; their files were not read."""


class _DamagedError(Exception):
    """A checkpoint that must not be loaded, and why."""


def load_latest(store: ObjectStore, config: RunConfig) -> tuple[LoadedCheckpoint | None, list[RejectedCheckpoint]]:
    """The checkpoint to resume from, and every newer one that was refused, with the reason.

    Which one is tried first, and what follows, is said at `resume_order`. Damaged checkpoints stay in the store.

    Args:
        store: where the run writes its checkpoints.
        config: the run; with `checkpoints.resume: Never` nothing is loaded.

    Raises:
        TrainerError: the store cannot be read. That is not a damaged checkpoint: nothing is skipped because of it.
    """
    if config.checkpoints.resume == "Never":
        return None, []
    stored, rejected = read_manifests(store, config)
    order = resume_order(stored)
    for position, checkpoint in enumerate(order):
        try:
            ancestors = [older for older in history(checkpoint, order[position:]) if older is not checkpoint]
            return _load(store, checkpoint, ancestors), rejected
        except _DamagedError as error:
            rejected.append(_rejected(checkpoint.uri, checkpoint.rank, str(error)))
    return None, rejected


def read_manifests(store: ObjectStore, config: RunConfig) -> tuple[list[StoredCheckpoint], list[RejectedCheckpoint]]:
    """Every manifest of a job that this run may continue from, and those that it must not, with the reason."""
    stored: list[StoredCheckpoint] = []
    rejected: list[RejectedCheckpoint] = []
    expected = config_sha256(config)
    for info in store.list(f"{job_prefix(config.store, config.job)}/manifests/"):
        place = parse_manifest_key(info.key)
        if place is None:
            continue
        step, attempt = place
        try:
            data = store.get(info.key)
            manifest = _parse(data, config, expected, step=step, attempt=attempt)
            stored.append(StoredCheckpoint(info.key, store.uri(info.key), manifest, sha256_hex(data)))
        except ObjectNotFoundError:
            continue  # Another attempt's retention removed it between the listing and now.
        except _DamagedError as error:
            rejected.append(_rejected(store.uri(info.key), (attempt, step), str(error)))
    return stored, rejected


def manifest_echo(manifest: CheckpointManifest) -> dict[str, Any]:
    """What `state.json` repeats of its manifest. The manifest's list vouches for the files, this for the manifest's other fields."""
    return manifest.model_dump(mode="json", by_alias=True, exclude={"files"})


def _parse(data: bytes, config: RunConfig, expected_config: str, *, step: int, attempt: int) -> CheckpointManifest:
    try:
        manifest = CheckpointManifest.model_validate_json(data)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise _DamagedError(f"the manifest is not readable: {where}: {problem['msg']}") from error
    if data != manifest.to_bytes():
        raise _DamagedError("the manifest is not in canonical form: it was changed after it was written")
    if manifest.job != config.job:
        raise _DamagedError(f"it belongs to another job: uid {manifest.job.uid}, and this job's is {config.job.uid}")
    if (manifest.step, manifest.attempt) != (step, attempt):
        raise _DamagedError(
            f"the manifest speaks of step {manifest.step} of attempt {manifest.attempt}, its key does not"
        )
    if manifest.config_sha256 != expected_config:
        raise _DamagedError(
            f"it was made by another configuration: configSha256 {manifest.config_sha256[:12]}, "
            f"and this run's is {expected_config[:12]}; model, task, objective, method, data, training and distribution must be the same"
        )
    return manifest


def _load(store: ObjectStore, checkpoint: StoredCheckpoint, ancestors: Sequence[StoredCheckpoint]) -> LoadedCheckpoint:
    manifest = checkpoint.manifest
    if {file.path for file in manifest.files} != {DOCUMENT_PATH, SHARD_PATH}:
        names = ", ".join(file.path for file in manifest.files) or "none"
        raise _DamagedError(f"it must hold the files {SHARD_PATH} and {DOCUMENT_PATH}; got {names}")
    with tempfile.TemporaryDirectory(prefix="trimtab-checkpoint-") as directory:
        require_room(
            Path(directory), sum(file.size for file in manifest.files), what=f"the checkpoint {checkpoint.uri}"
        )
        paths = {file.path: Path(directory, str(number)) for number, file in enumerate(manifest.files)}
        for file in sorted(manifest.files, key=lambda file: file.size):
            try:
                sha256 = store.download_file(file.key, paths[file.path])
            except ObjectNotFoundError as error:
                raise _DamagedError(f"the file {file.path} is missing ({store.uri(file.key)})") from error
            size = paths[file.path].stat().st_size
            if (size, sha256) != (file.size, file.sha256):
                raise _DamagedError(
                    f"the file {file.path} ({store.uri(file.key)}) does not match its manifest: "
                    f"{size} bytes with sha256 {sha256[:12]}, expected {file.size} with {file.sha256[:12]}"
                )
        state = json.loads(paths[DOCUMENT_PATH].read_bytes())
        if state["manifest"] != manifest_echo(manifest):
            raise _DamagedError(
                "the manifest says otherwise than the state it was written with: it was changed afterwards"
            )
        # The mapping outlives the file's name: tensors stay readable after the folder is gone.
        tensors = load_file(paths[SHARD_PATH])
    _logger.info("checkpoint_loaded uri=%s step=%d attempt=%d", checkpoint.uri, manifest.step, manifest.attempt)
    return LoadedCheckpoint(
        tensors,
        state["document"],
        manifest.step,
        manifest.attempt,
        manifest,
        checkpoint.sha256,
        checkpoint,
        tuple(ancestors),
    )


def _rejected(uri: str, rank: tuple[int, int], why: str) -> RejectedCheckpoint:
    _logger.warning("checkpoint_rejected uri=%s why=%s", uri, why)
    return RejectedCheckpoint(step=rank[1], attempt=rank[0], uri=uri, why=why)
