"""Where training starts: a model as it was given, or a published version, whole or as an adapter on its base model."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.methods import ADAPTER_FORMATS
from trimtab_trainer.contract.run_config import ResolvedModelVersion, RunConfig
from trimtab_trainer.contract.spec import ModelSource
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.fetch.by_uri import fetch_artifact, fetch_model
from trimtab_trainer.store.object_store import ObjectStore


@dataclass(frozen=True)
class BaseModel:
    """A model on the local disk."""

    directory: Path
    digest: str
    adapter: Path | None = None
    """An adapter that was published on top of it, to go on from."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Of the version that training goes on from, as its manifest has them."""


def base_source(config: RunConfig) -> ModelSource:
    """The model that lies under everything: what an adapter of this run needs when it is loaded."""
    version = config.model_version
    if version is None:
        return config.model
    if version.format in ADAPTER_FORMATS:
        return version.base_model
    return ModelSource(uri=version.artifact_uri.removesuffix("/manifest.json").rstrip("/"))


def fetch_base_model(config: RunConfig, *, store: ObjectStore, directory: Path) -> BaseModel:
    """Fetch and verify.

    Raises:
        TrainerError: ModelNotFound, ModelInvalid, DigestMismatch, or the store's.
    """
    version = config.model_version
    adapter, metrics = (None, {}) if version is None else _verified(version, store=store, directory=directory)
    source = base_source(config)
    fetched = fetch_model(source, store=store, directory=directory, pin=config.pins.model or config.model.digest)
    return BaseModel(fetched.path, fetched.digest, adapter, metrics)


def _verified(
    version: ResolvedModelVersion, *, store: ObjectStore, directory: Path
) -> tuple[Path | None, Mapping[str, float]]:
    """The adapter of a version (of a whole model only the proof that its bytes are those that were published), and its metrics."""
    artifact = fetch_artifact(
        version.artifact_uri, manifest_sha256=version.manifest_sha256, store=store, directory=directory / "version"
    )
    if version.format in ADAPTER_FORMATS:
        return artifact.path, artifact.manifest.metrics
    shutil.rmtree(artifact.path)
    if version.format != "safetensors":
        raise TrainerError(
            TrainerReason.MODEL_INVALID,
            f"`model.uri: modelversion://{version.name}` is a {version.format}, which cannot be trained.",
        )
    return None, artifact.manifest.metrics
