"""A published version as a model that can be measured: fetched, verified, loaded, and given data in its own words."""

import gc
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.methods import ADAPTER_FORMATS
from trimtab_trainer.contract.run_config import ResolvedModelVersion, RunConfig
from trimtab_trainer.data.splits import Split, encode_split
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.fetch.by_uri import fetch_artifact, fetch_model
from trimtab_trainer.methods.own_adapters import with_adapter
from trimtab_trainer.model import TrainableModel, load_model, prepare
from trimtab_trainer.objectives.registry import definition_of
from trimtab_trainer.store.object_store import ObjectStore
from trimtab_trainer.tasks.task import Task

ADAPTER_WEIGHTS = "adapter_model.safetensors"


@dataclass(frozen=True)
class PublishedFiles:
    """A model on the local disk."""

    directory: Path
    """Of the whole model: the version itself, or the base model under its adapter."""
    adapter: Path | None
    labels: tuple[str, ...]
    """Of a classifier, in the order of its outputs."""


@dataclass(frozen=True)
class Measurable:
    """A model with what it takes to measure it."""

    model: TrainableModel
    task: Task
    splits: Mapping[str, Split]
    """The examples in this model's own tokens and labels."""


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


def load_published(
    config: RunConfig,
    files: PublishedFiles,
    splits: Mapping[str, Split],
    *,
    device: torch.device,
    precision: torch.dtype,
) -> Measurable:
    """Load a model as it is: nothing of it will move.

    Args:
        config: task, objective and sequence length by which it is measured.
        files: what was fetched.
        splits: examples; they are encoded anew, as this model may have another tokenizer or other labels.
        device: where to.
        precision: of the matrix products.

    Raises:
        TrainerError: ModelInvalid, or DatasetInvalid where an example has a label that the model does not know.
    """
    definition = definition_of(config)
    processor = definition.load_processor(files.adapter or files.directory)
    module, _ = load_model(
        config,
        files.directory,
        auto_model=definition.auto_model,
        arguments=definition.load_arguments(config, files.labels),
        has_new_head=definition.has_new_head,
        tokenizer=processor,
    )
    if files.adapter is not None:
        module = with_adapter(module, files.adapter)
    module.requires_grad_(requires_grad=False)
    model = prepare(
        module,
        tokenizer=processor,
        device=device,
        precision=precision,
        labels=files.labels,
        keeps_base=files.adapter is not None,
    )
    encoder = definition.encoder(config, files.directory, processor, files.labels)
    encoded = {name: encode_split(name, split.examples, encoder.encode) for name, split in splits.items()}
    sample = next((split.encoded for split in encoded.values() if split.encoded), [])
    task, _ = definition.make(config, model, sample)
    return Measurable(model, task, encoded)


def release(device: torch.device) -> None:
    """Give memory back that nobody holds any more."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def published_labels(directory: Path) -> tuple[str, ...]:
    """What training wrote beside a model with labelled outputs; empty where there is nothing."""
    path = directory / "labels.json"
    if not path.exists():
        return ()
    found: Any = json.loads(path.read_text("utf-8"))
    return tuple(map(str, found))
