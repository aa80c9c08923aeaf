"""Brings models into the engine: downloads and big files in threads beside it, changes of a model between its steps."""

import asyncio
import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.run_config import ServedVersion, ServerConfig
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.model import load_tokenizer
from trimtab_trainer.server import models
from trimtab_trainer.server.adapters import NO_ADAPTER
from trimtab_trainer.server.classification import ClassificationLane
from trimtab_trainer.server.engine import Engine
from trimtab_trainer.server.generation import GenerationLane
from trimtab_trainer.server.routing import BASE
from trimtab_trainer.server.sources import BaseFiles, Source


@dataclass(frozen=True)
class Target:
    """What answers a request: a model in memory, and the adapter on it."""

    name: str
    lane: GenerationLane | ClassificationLane
    adapter: str
    tokenizer: Any
    labels: tuple[str, ...] = ()


class Loader:
    """Loads and unloads models. Its methods run on the event loop, one at a time."""

    def __init__(self, engine: Engine, source: Source) -> None:
        self._engine, self._source = engine, source
        self._files: BaseFiles | None = None
        self._shared: Target | None = None
        """The base model that adapters sit on."""
        self.base: Target | None = None
        """The base model as requests may name it; None where it has no head for the task."""

    async def load_base(self, config: ServerConfig) -> None:
        """Load what `base` names, where it is offered or needed.

        Raises:
            TrainerError: the base model cannot be had or is refused.
        """
        if config.offer_base_model or any(served.format == "peftAdapter" for served in config.versions):
            await self._base_files(config)

    async def load_version(self, config: ServerConfig, served: ServedVersion) -> Target:
        """Download, verify and load one version.

        Raises:
            TrainerError: it cannot be had or is refused; everything else is as before.
        """
        if served.format == "safetensors":
            path = await asyncio.to_thread(self._source.version, config, served, "")
            return await self._whole_model(config, served.name, path)
        files = await self._base_files(config)
        path = await asyncio.to_thread(self._source.version, config, served, files.digest)
        shared = await self._model_under(config, files, path)
        key = _adapter_key(served)
        await asyncio.wrap_future(self._engine.call(lambda: shared.lane.model.adapters.load(key, path)))
        tokenizer = await asyncio.to_thread(load_tokenizer, path) if has_tokenizer(path) else shared.tokenizer
        return replace(shared, name=served.name, adapter=key, tokenizer=tokenizer)

    async def unload(self, served: ServedVersion, target: Target) -> None:
        """Give a version's memory and disk space back. Nothing may use it any more."""
        if target.adapter == NO_ADAPTER:
            self._engine.remove(target.lane)
        else:
            await asyncio.wrap_future(self._engine.call(lambda: target.lane.model.adapters.unload(target.adapter)))
        await asyncio.to_thread(self._source.discard, served)

    async def _base_files(self, config: ServerConfig) -> BaseFiles:
        """The base model's files; the first time it is loaded too, unless it is a trunk that still lacks a head."""
        if self._files is None:
            files = await asyncio.to_thread(self._source.base, config)
            is_classifier = config.task.sequence_classification is not None
            if not is_classifier or await asyncio.to_thread(models.has_head, files.path):
                self.base = await self._whole_model(config, BASE, files.path)
            self._files = files
        return self._files

    async def _model_under(self, config: ServerConfig, files: BaseFiles, adapter: Path) -> Target:
        """The model that an adapter goes on. A classifier takes its labels from the first one."""
        labels = wanted_labels(config, adapter) if config.task.sequence_classification is not None else ()
        if self._shared is None:
            if self.base is not None and self.base.labels == labels:
                self._shared = self.base
            else:
                self._shared = await self._whole_model(config, BASE, files.path, labels=labels)
        if labels != self._shared.labels:
            raise TrainerError(
                TrainerReason.MODEL_INVALID,
                f"Versions on one server must have the same labels: {', '.join(self._shared.labels)}; got {', '.join(labels)}.",
            )
        return self._shared

    async def _whole_model(
        self, config: ServerConfig, name: str, path: Path, *, labels: tuple[str, ...] = ()
    ) -> Target:
        length = config.max_sequence_length
        if config.task.sequence_classification is None:
            generator = await asyncio.to_thread(models.load_generation_model, path, max_length=length)
            lane = GenerationLane(generator, max_rows=config.max_concurrent_requests)
            self._engine.add(lane)
            return Target(name, lane, NO_ADAPTER, generator.tokenizer)
        classifier = await asyncio.to_thread(
            models.load_classification_model,
            path,
            labels=labels,
            max_length=length,
            multi_label=config.task.sequence_classification.multi_label,
        )
        classes = ClassificationLane(classifier)
        self._engine.add(classes)
        return Target(name, classes, NO_ADAPTER, classifier.tokenizer, classifier.labels)


def wanted_labels(config: ServerConfig, artifact: Path) -> tuple[str, ...]:
    """The labels of a classifier's adapter: the task's, else those that training wrote beside it.

    Raises:
        TrainerError: ModelInvalid where nobody names them.
    """
    task = config.task.sequence_classification
    if task is not None and task.labels:
        return tuple(task.labels)
    try:
        named = json.loads((artifact / "labels.json").read_bytes())
    except FileNotFoundError:
        named = models.labels_of(artifact)
    except ValueError as error:
        raise TrainerError(
            TrainerReason.MODEL_INVALID, f"labels.json of the adapter cannot be read: {error}"
        ) from error
    if not named:
        raise TrainerError(
            TrainerReason.MODEL_INVALID,
            "The adapter does not say its labels: set `task.sequenceClassification.labels`.",
        )
    return tuple(str(label) for label in named)


def has_tokenizer(directory: Path) -> bool:
    """Whether an artifact brings its own tokenizer, and so its own chat template."""
    return (directory / "tokenizer.json").is_file() and (directory / "tokenizer_config.json").is_file()


def _adapter_key(served: ServedVersion) -> str:
    """Name inside peft: module names have no dots, and two versions may have the same bytes."""
    return "v" + hashlib.sha256(f"{served.name}\0{served.manifest_sha256}".encode()).hexdigest()[:32]
