"""Bringing models and data into the pod: by URI, whole, safetensors and text only, with the digest of what arrived."""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.manifests import ModelManifest, listing_digest, sha256_hex
from trimtab_trainer.contract.spec import DataSource, ModelSource
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.fetch import hub, s3, volume
from trimtab_trainer.fetch.source import (
    SourceFile,
    Wanted,
    materialize,
    own_directory,
    row_files,
    wanted_dataset,
    wanted_model,
)
from trimtab_trainer.store.errors import ObjectNotFoundError
from trimtab_trainer.store.object_store import ObjectStore

_MODEL_SUFFIXES = (".safetensors", ".json", ".jinja", ".model", ".tiktoken")
_MODEL_NAMES = frozenset({"vocab.txt", "merges.txt"})
_MODEL_FOLDERS = frozenset({"", "additional_chat_templates"})
_PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")


@dataclass(frozen=True)
class FetchedModel:
    """A base model on the local disk: weights in safetensors, configuration and tokenizer, and nothing else."""

    path: Path
    digest: str
    """`sha256:<hex>` over the listing of its files."""
    revision: str = ""
    """The hub's commit."""


@dataclass(frozen=True)
class FetchedDataset:
    """A data set on the local disk."""

    files: list[Path]
    """Those with rows, in the order of their names at the source; the images or recordings that they name lie beside them."""
    digest: str
    """`sha256:<hex>` over the listing of its files."""
    source: DataSource
    revision: str = ""
    """The hub's commit."""


@dataclass(frozen=True)
class FetchedArtifact:
    """A published model on the local disk, every byte compared with its manifest."""

    path: Path
    manifest: ModelManifest


def fetch_model(source: ModelSource, *, store: ObjectStore, directory: Path, pin: str = "") -> FetchedModel:
    """Fetch a base model from `s3://`, `hf://` or `pvc://`.

    Args:
        source: where, and optionally the digest that it must have.
        store: the endpoint and credentials for `s3://`.
        directory: scratch; a sub-folder is made.
        pin: the digest of an earlier attempt.

    Raises:
        TrainerError: `ModelNotFound`, `ModelInvalid` (for example only pickled weights), `ModelAccessDenied`, `DigestMismatch`,
            `WillNotFit`, or the store's.
    """
    wanted = wanted_model(source.uri)
    revision = ""
    if source.uri.startswith("s3://"):
        found = s3.folder(store, wanted)
    elif source.uri.startswith("pvc://"):
        found = volume.folder(wanted)
    elif source.uri.startswith("hf://"):
        found, revision = hub.model_files(wanted, source.revision)
    else:
        raise wanted.unusable("it must be resolved to an artifact by the operator; use fetch_artifact.")
    files = _model_files(found, wanted)
    path = own_directory(directory, source.uri, revision)
    digest = listing_digest(materialize(files, path, wanted=wanted))
    _check_shards(path, files, wanted)
    for expected, origin in ((source.digest, "`model.digest`"), (pin, "the earlier attempt's digest")):
        _check_digest(wanted, digest, expected, origin)
    return FetchedModel(path, digest, revision)


def fetch_dataset(
    source: DataSource, *, store: ObjectStore, directory: Path, pin: str = "", field: str = "data.*.uri"
) -> FetchedDataset:
    """Fetch a data set from `s3://`, `hf://` or `pvc://`: one file, or the data files of a folder.

    Args:
        source: where.
        store: the endpoint and credentials for `s3://`.
        directory: scratch; a sub-folder is made.
        pin: the digest of an earlier attempt.
        field: the field of the FineTuneJob that names it, for messages.

    Raises:
        TrainerError: `DatasetNotFound`, `DatasetInvalid`, `DigestMismatch`, `WillNotFit`, or the store's.
    """
    wanted = wanted_dataset(source.uri, field)
    revision = ""
    if source.uri.startswith("s3://"):
        files = s3.data_files(store, wanted)
    elif source.uri.startswith("pvc://"):
        files = volume.data_files(wanted)
    else:
        files, revision = hub.data_files(wanted, source.revision)
    files = sorted(files, key=lambda file: file.path)
    path = own_directory(directory, source.uri, revision)
    digest = listing_digest(materialize(files, path, wanted=wanted))
    _check_digest(wanted, digest, pin, "the earlier attempt's digest")
    return FetchedDataset(row_files([path / file.path for file in files]), digest, source, revision)


def fetch_artifact(uri: str, *, manifest_sha256: str, store: ObjectStore, directory: Path) -> FetchedArtifact:
    """Fetch a published model and compare every byte with its manifest, and the manifest with its pinned digest.

    Args:
        uri: `s3://` URI of the model's folder, or of its manifest.json.
        manifest_sha256: digest of the manifest as the ModelVersion has it, 64 hex digits.
        store: the endpoint and credentials.
        directory: scratch; a sub-folder is made.

    Raises:
        TrainerError: `ModelNotFound`, `ModelInvalid`, `DigestMismatch`, `WillNotFit`, or the store's.
    """
    wanted = wanted_model(uri)
    bucket, key = s3.split_uri(uri.removesuffix("/manifest.json").rstrip("/"))
    try:
        data = store.get(f"{key}/manifest.json", bucket=bucket)
    except ObjectNotFoundError as error:
        raise wanted.missing(f"there is no manifest.json at {uri}") from error
    _check_digest(
        wanted, f"sha256:{sha256_hex(data)}", f"sha256:{manifest_sha256}", "the ModelVersion's `manifestSha256`"
    )
    try:
        manifest = ModelManifest.parse(data)
    except ValidationError as error:
        raise wanted.unusable(f"its manifest.json is not one of {ModelManifest.__name__}: {error}") from error
    files = [
        SourceFile(entry.path, entry.size, partial(store.download_file, f"{key}/{entry.path}", bucket=bucket))
        for entry in manifest.files
    ]
    path = own_directory(directory, uri, manifest_sha256)
    try:
        arrived = materialize(files, path, wanted=wanted)
    except ObjectNotFoundError as error:
        raise TrainerError(TrainerReason.DIGEST_MISMATCH, f"`{wanted.field}` '{uri}' is incomplete: {error}") from error
    for entry in manifest.files:
        if arrived[entry.path] != (entry.size, entry.sha256):
            raise TrainerError(
                TrainerReason.DIGEST_MISMATCH,
                f"{uri}/{entry.path} has sha256 {arrived[entry.path][1]}, and its manifest says {entry.sha256}. "
                "Somebody changed it after it was published: restore it, or use another version.",
            )
    return FetchedArtifact(path, manifest)


def _model_files(found: list[SourceFile], wanted: Wanted) -> list[SourceFile]:
    """What transformers needs, and nothing that could run code."""
    names = {file.path for file in found}
    weights = {name for name in names if name.endswith(".safetensors") and "/" not in name}
    if "config.json" not in names:
        if "adapter_config.json" in names:
            raise wanted.unusable("it is an adapter, not a base model. Continue from it with modelversion://<name>.")
        raise wanted.unusable(f"it has no config.json. It holds: {', '.join(sorted(names)[:5])}.")
    if not weights:
        pickles = sorted(name for name in names if name.endswith(_PICKLE_SUFFIXES))
        if pickles:
            raise wanted.unusable(
                f"its weights are pickles ({pickles[0]}), which can run code when they are loaded. "
                "Convert it with `save_pretrained`, which writes safetensors."
            )
        raise wanted.unusable("it has no *.safetensors weights.")
    # Mistral's repositories carry the same weights twice.
    twice = {name for name in weights if name.startswith("consolidated")} if len(weights) > 1 else set()
    return [file for file in found if _belongs_to_model(file.path) and file.path not in twice]


def _belongs_to_model(path: str) -> bool:
    folder, _, name = path.rpartition("/")
    return folder in _MODEL_FOLDERS and (name.endswith(_MODEL_SUFFIXES) or name in _MODEL_NAMES)


def _check_shards(path: Path, files: list[SourceFile], wanted: Wanted) -> None:
    index = path / "model.safetensors.index.json"
    if not index.exists():
        return
    try:
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise wanted.unusable("its model.safetensors.index.json is malformed. Save the model again.") from error
    missing = sorted(shards - {file.path for file in files})
    if missing:
        raise wanted.unusable(
            f"{len(missing)} of {len(shards)} weight files are missing, for example {missing[0]}. Upload them."
        )


def _check_digest(wanted: Wanted, digest: str, expected: str, origin: str) -> None:
    if expected and digest != expected:
        raise TrainerError(
            TrainerReason.DIGEST_MISMATCH,
            f"`{wanted.field}` '{wanted.uri}' must match {origin}: {expected} was expected, and its bytes have {digest}. "
            "Restore the bytes, or start a new job for the new ones.",
        )
