"""Loads the models of every task but text generation, and puts adapters on a base model that they share."""

import asyncio
import hashlib
from pathlib import Path
from typing import Any

from transformers import AutoConfig

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.run_config import ServedVersion, ServerConfig
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.fetch.published import published_labels
from trimtab_trainer.model import TrainableModel
from trimtab_trainer.objectives.registry import definition_of
from trimtab_trainer.server.adapters import NO_ADAPTER, Adapters
from trimtab_trainer.server.engine import Engine
from trimtab_trainer.server.routing import BASE
from trimtab_trainer.server.servable import ModelFiles, load, servable, settings_of
from trimtab_trainer.server.target import TaskTarget
from trimtab_trainer.server.task_lane import TaskLane
from trimtab_trainer.tasks.definition import TaskDefinition


class TaskModels:
    """The models of one server. Its methods run on the event loop, one at a time."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._shared: TrainableModel | None = None
        """The base model that LoRA adapters sit on."""
        self._lane = TaskLane()
        """Its."""
        self._lane_of_base: TaskLane | None = None
        """That of the model which requests may name `base`."""

    async def base(self, config: ServerConfig, path: Path) -> TaskTarget | None:
        """The base model as requests may name it; None where it has no head for the task."""
        if not await asyncio.to_thread(_has_head, config, path):
            return None
        labels = await asyncio.to_thread(labels_of, config, path)
        model = await self._share(config, path, labels, complete=True)
        self._lane_of_base = self._lane
        return await self._target(config, BASE, model, self._lane, ModelFiles(path), NO_ADAPTER)

    async def whole(self, config: ServerConfig, served: ServedVersion, files: ModelFiles) -> TaskTarget:
        """A model of its own: all of it, or a base model with an adapter that cannot be switched.

        Raises:
            TrainerError: ModelInvalid.
        """
        labels = await asyncio.to_thread(labels_of, config, files.adapter or files.directory)
        model = await asyncio.to_thread(load, config, files, labels, complete=files.adapter is None)
        lane = TaskLane()
        target = await self._target(
            config, served.name, model, lane, files, NO_ADAPTER, limit=served.max_sequence_length
        )
        self._engine.add(lane)
        return target

    async def adapted(self, config: ServerConfig, served: ServedVersion, files: ModelFiles) -> TaskTarget:
        """A LoRA adapter on the base model that all of them share.

        Raises:
            TrainerError: ModelInvalid, also where its labels are not those of the others.
        """
        path = files.adapter or files.directory
        labels = await asyncio.to_thread(labels_of, config, path)
        model = self._shared
        if model is None or (model.labels != labels and not self._has_adapters):
            model = await self._share(config, files.directory, labels, complete=False)
        if labels != model.labels:
            raise TrainerError(
                TrainerReason.MODEL_INVALID,
                f"Versions on one server must have the same labels: {', '.join(model.labels)}; got {', '.join(labels)}.",
            )
        key, adapters = adapter_key(served), self._lane.adapters
        if adapters is None:
            raise TypeError("the shared model has no adapters")
        await asyncio.wrap_future(self._engine.call(lambda: adapters.load(key, path)))
        return await self._target(config, served.name, model, self._lane, files, key, limit=served.max_sequence_length)

    async def unload(self, target: TaskTarget) -> None:
        """Give memory back."""
        adapters = target.lane.adapters
        if target.owns_lane:
            self._engine.remove(target.lane)
        elif adapters is not None:
            await asyncio.wrap_future(self._engine.call(lambda: adapters.unload(target.adapter)))

    @property
    def _has_adapters(self) -> bool:
        return self._lane.adapters is not None and bool(self._lane.adapters.loaded)

    async def _share(
        self, config: ServerConfig, path: Path, labels: tuple[str, ...], *, complete: bool
    ) -> TrainableModel:
        """Load the base model; one with other labels that requests may name stays beside it."""
        model = await asyncio.to_thread(load, config, ModelFiles(path), labels, complete=complete)
        if self._lane is not self._lane_of_base:
            self._engine.remove(self._lane)
        self._shared, self._lane = model, TaskLane(Adapters(model.module, mixes=False))
        self._engine.add(self._lane)
        return model

    async def _target(  # noqa: PLR0913 - one target, wholly described
        self,
        config: ServerConfig,
        name: str,
        model: TrainableModel,
        lane: TaskLane,
        files: ModelFiles,
        adapter: str,
        *,
        limit: int | None = None,
    ) -> TaskTarget:
        made = await asyncio.to_thread(servable, config, model, files, limit or config.max_sequence_length)
        return TaskTarget(name, lane, made, adapter, owns_lane=lane.adapters is None)


def labels_of(config: ServerConfig, directory: Path) -> tuple[str, ...]:
    """The labels in the order of a head's outputs: those that training wrote, else the task's, else the model's own.

    Raises:
        TrainerError: ModelInvalid where nobody names them.
    """
    try:
        written = published_labels(directory)
    except ValueError as error:
        raise TrainerError(TrainerReason.MODEL_INVALID, f"labels.json cannot be read: {error}") from error
    if written:
        return written
    if config.task.multi_task is not None:
        raise TrainerError(
            TrainerReason.MODEL_INVALID,
            "A model of several tasks must have labels.json, which names its heads' outputs.",
        )
    if not _definition(config).has_labels:
        return ()
    found = _stated_labels(config) or _labels_of_config(directory)
    if not found:
        kind = config.task.kind
        raise TrainerError(
            TrainerReason.MODEL_INVALID, f"The adapter does not say its labels: set `task.{kind}.labels`."
        )
    return found


def adapter_key(served: ServedVersion) -> str:
    """Name inside peft: module names have no dots, and two versions may have the same bytes."""
    return "v" + hashlib.sha256(f"{served.name}\0{served.manifest_sha256}".encode()).hexdigest()[:32]


def _definition(config: ServerConfig) -> TaskDefinition:
    return definition_of(settings_of(config, (), config.max_sequence_length))


def _stated_labels(config: ServerConfig) -> tuple[str, ...]:
    task = config.task
    members = (
        task.sequence_classification,
        task.token_classification,
        task.image_classification,
        task.object_detection,
    )
    return next((tuple(member.labels) for member in members if member is not None), ())


def _has_head(config: ServerConfig, directory: Path) -> bool:
    """Whether the files are a model of this task already."""
    if config.task.multi_task is not None:
        return False
    wanted = _definition(config).auto_model.__name__.removeprefix("AutoModel")
    return any(name.endswith(wanted) for name in _read_config(directory).architectures or [])


def _labels_of_config(directory: Path) -> tuple[str, ...]:
    if not (directory / "config.json").is_file():
        return ()
    names = _read_config(directory).id2label or {}
    return tuple(names[number] for number in sorted(names))


def _read_config(directory: Path) -> Any:
    try:
        return AutoConfig.from_pretrained(directory, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError) as error:
        raise TrainerError(TrainerReason.MODEL_INVALID, f"The model's config.json cannot be read: {error}") from error
