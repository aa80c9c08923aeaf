"""Manifests and keys in the store: the commit protocol's formats (docs/architecture.md), shared by trainer, server and operator."""

import hashlib
import json
import re
from typing import Any, Final, Literal, Self

from pydantic import Field

from trimtab_trainer.contract.base import Document
from trimtab_trainer.contract.methods import PublishedFormat
from trimtab_trainer.contract.run_config import JobIdentity, ResolvedDataset, RunConfig, Store

CHECKPOINT_SCHEMA: Final = "trimtab.dev/checkpoint/v1"
MODEL_SCHEMA: Final = "trimtab.dev/model/v1"
_MANIFEST_NAME = re.compile(r"s(\d{9})-a(\d+)\.json$")


class FileEntry(Document):
    """One file of a checkpoint or model."""

    key: str
    """Key in the bucket."""
    path: str
    """Path inside the checkpoint or model."""
    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class CheckpointManifest(Document):
    """Written last: a checkpoint is committed when this is readable and every file matches."""

    schema_: Literal["trimtab.dev/checkpoint/v1"] = Field(default=CHECKPOINT_SCHEMA, alias="schema")
    job: JobIdentity
    attempt: int
    step: int
    world_size: int
    parent: str | None
    """sha256 of the parent manifest's bytes; null for the first one."""
    files: list[FileEntry]
    config_sha256: str
    metrics: dict[str, float]
    created_at: str

    def to_bytes(self) -> bytes:
        """The canonical form; `parent` is written even when it is null."""
        return canonical_json(self.model_dump(mode="json", by_alias=True))


class BaseModelRef(Document):
    """The model that was fine-tuned."""

    uri: str
    digest: str


class Lineage(Document):
    """Where a model comes from."""

    job: JobIdentity
    attempt: int
    step: int
    datasets: list[ResolvedDataset]
    config_digest: str
    image: str
    parent_version: str = ""


class ModelManifest(Document):
    """The list of a published model's files, with its origin."""

    schema_: Literal["trimtab.dev/model/v1"] = Field(default=MODEL_SCHEMA, alias="schema")
    model_name: str
    version: int
    format: PublishedFormat
    base_model: BaseModelRef
    lineage: Lineage
    files: list[FileEntry]
    metrics: dict[str, float]
    created_at: str

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """A manifest of this release or of another one with the same schema.

        Fields that a later release has added are ignored, as by readers of an OCI image manifest. The digest in the
        ModelVersion vouches for all bytes.

        Raises:
            ValidationError: it is none.
        """
        return cls.model_validate_json(data, extra="ignore")

    def to_bytes(self) -> bytes:
        """The canonical form."""
        return canonical_json(self.model_dump(mode="json", by_alias=True))


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys and no spaces, UTF-8: the same value always has the same bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def sha256_hex(data: bytes | memoryview) -> str:
    """SHA-256 as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def listing_digest(files: dict[str, tuple[int, str]]) -> str:
    """The digest of a model or data set: `sha256:<hex>` over `{path: (size, sha256 hex)}` in canonical form."""
    entries = [{"path": path, "sha256": sha256, "size": size} for path, (size, sha256) in sorted(files.items())]
    return "sha256:" + sha256_hex(canonical_json({"files": entries}))


_RUN_IDENTITY = {
    "model",
    "model_version",
    "task",
    "objective",
    "method",
    "data",
    "training",
    "distribution",
    "checkpoints",
    "output",
}
_MAY_CHANGE = {"checkpoints": {"keep_last", "keep_best"}, "output": {"sign", "signing_secret_name", "reclaim_policy"}}


def run_identity(config: RunConfig) -> dict[str, Any]:
    """What identifies "the same run": the part of the spec that cannot change while a job lives.

    Left out: the attempt, the job's identity (manifests name it beside this), pins, store, image, limits and what may be
    changed on the way (`keepLast`, `keepBest`) or is about the bytes only after training (`sign`, `reclaimPolicy`). Defaults are left out too, so that a release which adds a field resumes older runs.
    """
    return config.model_dump(
        mode="json", by_alias=True, include=_RUN_IDENTITY, exclude=_MAY_CHANGE, exclude_defaults=True
    )


def config_sha256(config: RunConfig) -> str:
    """The digest of the run's identity: 64 hex digits."""
    return sha256_hex(canonical_json(run_identity(config)))


def job_prefix(store: Store, job: JobIdentity) -> str:
    """Key prefix of everything one job writes, without a slash at the end."""
    return "/".join(part for part in (store.prefix, job.namespace, job.name, job.uid) if part)


def checkpoint_prefix(store: Store, job: JobIdentity, *, attempt: int, step: int) -> str:
    """Key prefix of one checkpoint's files."""
    return f"{job_prefix(store, job)}/a{attempt}/s{step}"


def manifest_key(store: Store, job: JobIdentity, *, attempt: int, step: int) -> str:
    """Key of one checkpoint's manifest."""
    return f"{job_prefix(store, job)}/manifests/s{step:09d}-a{attempt}.json"


def parse_manifest_key(key: str) -> tuple[int, int] | None:
    """`(step, attempt)` of a manifest key, or None for any other key."""
    match = _MANIFEST_NAME.search(key)
    return (int(match[1]), int(match[2])) if match else None


def reports_prefix(store: Store, job: JobIdentity) -> str:
    """Key prefix of `metrics.jsonl`, `loss.png`, `report.json` and `report.md`."""
    return f"{job_prefix(store, job)}/reports"


def model_prefix(store: Store, *, namespace: str, model_name: str, version: int) -> str:
    """Key prefix of a published model."""
    return "/".join(part for part in (store.prefix, namespace, "models", model_name, str(version)) if part)
