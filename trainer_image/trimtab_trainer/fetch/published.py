"""The files of a published version on the local disk, every byte compared with its manifest."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.methods import ADAPTER_FORMATS
from trimtab_trainer.contract.run_config import ResolvedModelVersion
from trimtab_trainer.contract.spec import ModelSource
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.fetch.by_uri import fetch_artifact, fetch_model
from trimtab_trainer.store.object_store import ObjectStore

ADAPTER_WEIGHTS = "adapter_model.safetensors"


@dataclass(frozen=True)
class PublishedFiles:
    """A model on the local disk."""

    directory: Path
    """Of the whole model: the version itself, or the base model under its adapter."""
    adapter: Path | None
    labels: tuple[str, ...]
    """Of a classifier, in the order of its outputs."""


def fetch_version(version: ResolvedModelVersion, *, store: ObjectStore, directory: Path) -> PublishedFiles:
    """Fetch a version, every byte compared with its manifest, and the base model that it needs.

    Raises:
        TrainerError: ModelNotFound, ModelInvalid, DigestMismatch, or the store's.
    """
    artifact = fetch_artifact(
        version.artifact_uri, manifest_sha256=version.manifest_sha256, store=store, directory=directory / "version"
    ).path
    if version.format == "safetensors":
        return PublishedFiles(artifact, None, published_labels(artifact))
    if version.format not in ADAPTER_FORMATS:
        raise TrainerError(
            TrainerReason.MODEL_INVALID, f"{version.name} is a {version.format}, which cannot be measured."
        )
    if not (artifact / ADAPTER_WEIGHTS).is_file():
        # peft would look for a pickle instead.
        raise TrainerError(TrainerReason.MODEL_INVALID, f"{version.name} has no {ADAPTER_WEIGHTS}.")
    base = fetch_model(version.base_model, store=store, directory=directory / "base")
    return PublishedFiles(base.path, artifact, published_labels(artifact))


def fetch_whole(source: ModelSource, *, store: ObjectStore, directory: Path) -> tuple[PublishedFiles, str]:
    """Fetch a model that nobody published as a version, and the digest of its bytes.

    Raises:
        TrainerError: ModelNotFound, ModelInvalid, DigestMismatch, or the store's.
    """
    fetched = fetch_model(source, store=store, directory=directory)
    return PublishedFiles(fetched.path, None, published_labels(fetched.path)), fetched.digest


def base_under(
    version: ResolvedModelVersion, files: PublishedFiles, *, store: ObjectStore, directory: Path
) -> PublishedFiles:
    """The model that a version was made of, to be measured by the version's labels.

    Raises:
        TrainerError: ModelNotFound, ModelInvalid, DigestMismatch, or the store's.
    """
    if files.adapter is not None:
        return PublishedFiles(files.directory, None, files.labels)
    return PublishedFiles(fetch_model(version.base_model, store=store, directory=directory).path, None, files.labels)


def published_labels(directory: Path) -> tuple[str, ...]:
    """What training wrote beside a model with labelled outputs; empty where there is nothing."""
    path = directory / "labels.json"
    if not path.exists():
        return ()
    found: Any = json.loads(path.read_text("utf-8"))
    return tuple(map(str, found))
