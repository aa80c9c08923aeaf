"""A store, checkpoints and publishing in memory, with the interfaces of the real ones."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import pytest
import torch
from safetensors.torch import load

from trimtab_trainer import prepare, publication, run
from trimtab_trainer.checkpoint.snapshot import SnapshotBuffer
from trimtab_trainer.contract.messages import CommittedCheckpoint, PublishedModel, RejectedCheckpoint, VersionReply
from trimtab_trainer.contract.run_config import RunConfig, Store
from trimtab_trainer.fetch import base_model, published

DIGEST = "sha256:" + 64 * "0"


@dataclass
class Fetched:
    """What the storage's fetch functions return."""

    files: list[Path] = field(default_factory=list)
    digest: str = DIGEST
    source: Any = None
    path: Path = Path()
    manifest: Any = None


@dataclass
class MemoryStorage:
    """Store, checkpoints and publishing in memory, with the interfaces of the real ones."""

    root: Path
    """`s3://x/y` is the local path `<root>/x/y`."""
    objects: dict[str, bytes] = field(default_factory=dict)
    checkpoints: dict[int, tuple[str, bytes]] = field(default_factory=dict)
    """By step: the document, and the tensors as safetensors."""
    saved_steps: list[int] = field(default_factory=list)
    published: dict[str, Any] = field(default_factory=dict)
    artifact_metrics: dict[str, float] = field(default_factory=dict)
    """What the manifest of a fetched version says."""

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Take the places of the real functions."""
        patch.setattr(run, "ObjectStore", self)
        patch.setattr(run, "CheckpointWriter", lambda *_, **options: MemoryWriter(self, **options))
        patch.setattr(run, "load_latest", self.load_latest)
        patch.setattr(prepare, "fetch_dataset", self.fetch_dataset)
        patch.setattr(base_model, "fetch_model", self.fetch_model)
        patch.setattr(base_model, "fetch_artifact", self.fetch_artifact)
        patch.setattr(published, "fetch_model", self.fetch_model)
        patch.setattr(published, "fetch_artifact", self.fetch_artifact)
        patch.setattr(publication, "publish", self.publish)
        patch.setattr(prepare, "release_detector", lambda: None)  # loading it again takes a second

    def open(self, _store: Store) -> "MemoryStorage":
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def put(self, key: str, data: bytes) -> None:
        self.objects[key.rpartition("/")[2]] = bytes(data)

    def uri(self, key: str) -> str:
        return f"s3://bucket/{key}"

    def local(self, uri: str) -> Path:
        return self.root / uri.removeprefix("s3://")

    def fetch_dataset(self, source: Any, **_: Any) -> Fetched:
        return Fetched(files=[self.local(source.uri)], source=source)

    def fetch_model(self, source: Any, **_: Any) -> Fetched:
        return Fetched(path=self.local(source.uri))

    def fetch_artifact(self, uri: str, **_: Any) -> Fetched:
        copy = self.root / "fetched-artifact"
        shutil.rmtree(copy, ignore_errors=True)
        manifest = SimpleNamespace(metrics=self.artifact_metrics)
        return Fetched(path=shutil.copytree(self.local(uri), copy), manifest=manifest)

    def load_latest(self, _store: object, _config: RunConfig) -> tuple[Any, list[RejectedCheckpoint]]:
        if not self.checkpoints:
            return None, []
        step = max(self.checkpoints)
        document, tensors = self.checkpoints[step]
        return Loaded(step, json.loads(document), load(tensors)), []

    def publish(
        self, directory: Path, *, config: RunConfig, reserve: Callable[[list[int]], VersionReply], origin: Any, **_: Any
    ) -> PublishedModel:
        reply = reserve([])
        target = self.root / "published"
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(directory, target)
        self.published = {"metrics": origin.metrics, "step": origin.step, "format": origin.format, "path": target}
        return PublishedModel(
            name=reply.name,
            version=reply.version,
            uri="s3://bucket/model",
            manifest_sha256=64 * "0",
            size_bytes=1,
            files=1,
            format=origin.format,
            base_model_digest=DIGEST,
            config_digest=config.job.uid,
            step=origin.step,
            verified_at="",
        )

    @property
    def history(self) -> list[dict[str, float]]:
        """The lines of `metrics.jsonl`, without what depends on the clock."""
        lines = [json.loads(line) for line in self.objects["metrics.jsonl"].splitlines()]
        return [{name: value for name, value in line.items() if name != "tokens_per_second"} for line in lines]


@dataclass
class Loaded:
    """A checkpoint that was read back."""

    step: int
    document: dict[str, Any]
    tensors: dict[str, torch.Tensor]
    attempt: int = 1


class MemoryWriter:
    """A checkpoint writer that commits at once."""

    def __init__(self, storage: MemoryStorage, **_: Any) -> None:
        self._storage = storage
        self.committed: list[CommittedCheckpoint] = []

    def save(
        self,
        tensors: Mapping[str, Any],
        document: Mapping[str, Any],
        *,
        step: int,
        metrics: Mapping[str, float],
    ) -> float:
        buffer = SnapshotBuffer()
        buffer.copy_from(tensors)
        data = b"".join(buffer.pieces())
        self._storage.checkpoints[step] = (json.dumps(document, allow_nan=False), data)
        self._storage.saved_steps.append(step)
        self.committed.append(
            CommittedCheckpoint(
                step=step,
                attempt=1,
                uri=f"s3://bucket/{step}",
                manifest_sha256=64 * "0",
                bytes=len(data),
                time="",
                metrics=dict(metrics),
            )
        )
        return 0.001

    def accepts(self, _step: int) -> bool:
        """Every step, again too."""
        return True

    def wait(self, timeout: float | None = None) -> None: ...

    def finish(self) -> None: ...

    def close(self) -> None: ...
