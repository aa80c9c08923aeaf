"""Brings models into the engine: downloads and big files in threads beside it, changes of a model between its steps."""

import asyncio
from pathlib import Path
from typing import Any, Protocol

from trimtab_trainer.contract.methods import ADAPTER_FORMATS
from trimtab_trainer.contract.run_config import ServedVersion, ServerConfig
from trimtab_trainer.server.engine import Engine
from trimtab_trainer.server.servable import ModelFiles
from trimtab_trainer.server.sources import BaseFiles, Source
from trimtab_trainer.server.target import Target, TextTarget
from trimtab_trainer.server.task_models import TaskModels
from trimtab_trainer.server.text_models import TextModels


class Models(Protocol):
    """How the models of one kind come into memory."""

    async def base(self, config: ServerConfig, path: Path) -> Any:
        """The base model as requests may name it; None where it cannot answer."""

    async def whole(self, config: ServerConfig, served: ServedVersion, files: ModelFiles) -> Any:
        """A model of its own."""

    async def adapted(self, config: ServerConfig, served: ServedVersion, files: ModelFiles) -> Any:
        """An adapter on the base model that others share."""

    async def unload(self, target: Any) -> None:
        """Give memory back."""


class Loader:
    """Loads and unloads models. Its methods run on the event loop, one at a time."""

    def __init__(self, engine: Engine, source: Source) -> None:
        self._source = source
        self._texts, self._tasks = TextModels(engine), TaskModels(engine)
        self._files: BaseFiles | None = None
        self.base: Target | None = None
        """The base model as requests may name it; None where it has no head for the task."""

    async def load_base(self, config: ServerConfig) -> None:
        """Load what `base` names, where it is offered or needed.

        Raises:
            TrainerError: the base model cannot be had or is refused.
        """
        if config.offer_base_model or any(served.format in ADAPTER_FORMATS for served in config.versions):
            await self._base_files(config)

    async def load_version(self, config: ServerConfig, served: ServedVersion) -> Target:
        """Download, verify and load one version.

        Raises:
            TrainerError: it cannot be had or is refused; everything else is as before.
        """
        models = self._models(config)
        if served.format not in ADAPTER_FORMATS:
            path = await asyncio.to_thread(self._source.version, config, served, "")
            whole: Target = await models.whole(config, served, ModelFiles(path))
            return whole
        base = await self._base_files(config)
        path = await asyncio.to_thread(self._source.version, config, served, base.digest)
        files = ModelFiles(base.path, path)
        load = models.adapted if _is_shared(config, served) else models.whole
        target: Target = await load(config, served, files)
        return target

    async def unload(self, served: ServedVersion, target: Target) -> None:
        """Give a version's memory and disk space back. Nothing may use it any more."""
        models: Models = self._texts if isinstance(target, TextTarget) else self._tasks
        await models.unload(target)
        await asyncio.to_thread(self._source.discard, served)

    async def _base_files(self, config: ServerConfig) -> BaseFiles:
        """The base model's files; the first time it is loaded too, unless it is a trunk that still lacks a head."""
        if self._files is None:
            files = await asyncio.to_thread(self._source.base, config)
            self.base = await self._models(config).base(config, files.path)
            self._files = files
        return self._files

    def _models(self, config: ServerConfig) -> Models:
        return self._texts if config.task.causal_language_modeling is not None else self._tasks


def _is_shared(config: ServerConfig, served: ServedVersion) -> bool:
    """Whether the version is switched on and off on one base model; others change it or wrap it."""
    if served.format == "peftPrompt":
        return config.task.causal_language_modeling is not None
    return served.format == "peftAdapter"
