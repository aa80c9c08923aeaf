"""Loads causal language models: whole ones, and LoRA adapters and prefixes on a base model that they share."""

import asyncio
from pathlib import Path

from trimtab_trainer.contract.run_config import ServedVersion, ServerConfig
from trimtab_trainer.model import load_tokenizer
from trimtab_trainer.server import models
from trimtab_trainer.server.adapters import NO_ADAPTER
from trimtab_trainer.server.engine import Engine
from trimtab_trainer.server.generation import GenerationLane
from trimtab_trainer.server.prefixes import load_prefix
from trimtab_trainer.server.routing import BASE
from trimtab_trainer.server.servable import ModelFiles
from trimtab_trainer.server.target import TextTarget
from trimtab_trainer.server.task_models import adapter_key


class TextModels:
    """The models of one server. Its methods run on the event loop, one at a time."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._shared: TextTarget | None = None

    async def base(self, config: ServerConfig, path: Path) -> TextTarget:
        """The base model, which adapters and prefixes share."""
        self._shared = await self._load(config, BASE, ModelFiles(path), owns_lane=False)
        return self._shared

    async def whole(self, config: ServerConfig, served: ServedVersion, files: ModelFiles) -> TextTarget:
        """A model of its own: all of it, or a base model with an adapter that cannot be switched."""
        return await self._load(config, served.name, files, owns_lane=True)

    async def adapted(self, config: ServerConfig, served: ServedVersion, files: ModelFiles) -> TextTarget:
        """A LoRA adapter, or trained prefixes, on the base model."""
        path = files.adapter or files.directory
        shared = self._shared or await self.base(config, files.directory)
        tokenizer = await asyncio.to_thread(load_tokenizer, path) if has_tokenizer(path) else shared.tokenizer
        lane, model = shared.lane, shared.lane.model
        if served.format == "peftPrompt":
            prefix = await asyncio.wrap_future(self._engine.call(lambda: load_prefix(model, path)))
            return TextTarget(served.name, lane, tokenizer, prefix=prefix, owns_lane=False)
        key = adapter_key(served)
        await asyncio.wrap_future(self._engine.call(lambda: model.adapters.load(key, path)))
        return TextTarget(served.name, lane, tokenizer, key, owns_lane=False)

    async def unload(self, target: TextTarget) -> None:
        """Give memory back."""
        adapters = target.lane.model.adapters
        if target.owns_lane:
            self._engine.remove(target.lane)
        elif target.adapter != NO_ADAPTER:
            await asyncio.wrap_future(self._engine.call(lambda: adapters.unload(target.adapter)))

    async def _load(self, config: ServerConfig, name: str, files: ModelFiles, *, owns_lane: bool) -> TextTarget:
        model = await asyncio.to_thread(
            models.load_generation_model, files.directory, max_length=config.max_sequence_length, adapter=files.adapter
        )
        lane = GenerationLane(model, max_rows=config.max_concurrent_requests)
        self._engine.add(lane)
        return TextTarget(name, lane, model.tokenizer, owns_lane=owns_lane)


def has_tokenizer(directory: Path) -> bool:
    """Whether an artifact brings its own tokenizer, and so its own chat template."""
    return (directory / "tokenizer.json").is_file() and (directory / "tokenizer_config.json").is_file()
