"""Adapters on their way into vLLM: verified files first, then its adapter API."""

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from trimtab_trainer import logs
from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.run_config import ServedVersion, ServerConfig
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.server.routing import BASE
from trimtab_trainer.server.sources import BaseFiles, Source
from trimtab_trainer.server.vllm.api import AwayError, Vllm

_LOOK_SECONDS = 1.0
_DIGEST_CHARACTERS = 16


@dataclass(frozen=True)
class Target:
    """What answers a request."""

    name: str
    """ModelVersion, or `base`."""
    model: str
    """The name that vLLM knows it by."""


class SharedFiles(Source, Protocol):
    """Where vLLM finds what it is started with."""

    def whole(self, config: ServerConfig, served: ServedVersion) -> None:
        """Bring a whole model to where vLLM waits for it."""


class AdapterLoader:
    """Loads and unloads adapters, or brings the one whole model. Its methods run on the event loop, one at a time."""

    def __init__(self, vllm: Vllm, source: SharedFiles) -> None:
        self._vllm, self._source = vllm, source
        self._files: BaseFiles | None = None
        self.base: Target | None = None

    async def load_base(self, config: ServerConfig) -> None:
        """Bring the base model to where vLLM waits for it, and wait until vLLM has loaded it. Without one, the whole model takes its place.

        Raises:
            TrainerError: the model cannot be had or is refused.
        """
        if not config.offer_base_model:
            await asyncio.to_thread(self._source.whole, config, config.versions[0])
            await self._until_ready()
            return
        self._files = await asyncio.to_thread(self._source.base, config)
        loaded = await self._until_ready()
        for name in sorted(loaded - {BASE}):
            # A router before this one left them: their files may be gone.
            await self._vllm.unload(name)
        self.base = Target(BASE, BASE)

    async def load_version(self, config: ServerConfig, served: ServedVersion) -> Target:
        """Download, verify and load one adapter. The whole model that vLLM was started with is there.

        Raises:
            TrainerError: it cannot be had or is refused; everything else is as before.
        """
        if not config.offer_base_model:
            return Target(served.name, BASE)
        if served.format != "peftAdapter":
            raise TrainerError(
                TrainerReason.MODEL_INVALID, f"{served.name} is a whole model; vLLM serves adapters of one base model."
            )
        digest = self._files.digest if self._files else ""
        path = await asyncio.to_thread(self._source.version, config, served, digest)
        _check_is_lora(served, path)
        name = f"{served.name}-{served.manifest_sha256[:_DIGEST_CHARACTERS]}"
        await self._vllm.load(name, str(path))
        return Target(served.name, name)

    async def unload(self, served: ServedVersion, target: Target) -> None:
        """Take an adapter out of vLLM, then its files away: vLLM reads them again whenever it swaps adapters."""
        if target.model == BASE:
            return  # It goes with the pod.
        try:
            await self._vllm.unload(target.model)
        except TrainerError as error:
            logs.warning("adapter_not_unloaded", version=served.name, message=error)
            return
        await asyncio.to_thread(self._source.discard, served)

    async def _until_ready(self) -> frozenset[str]:
        """The models in memory, as soon as vLLM answers. Why it does not start, its container's status tells."""
        while True:
            try:
                return await self._vllm.models()
            except AwayError:
                await asyncio.sleep(_LOOK_SECONDS)


def _check_is_lora(served: ServedVersion, path: Path) -> None:
    try:
        kind = json.loads((path / "adapter_config.json").read_bytes())["peft_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainerError(
            TrainerReason.MODEL_INVALID, f"adapter_config.json of {served.name} cannot be read: {error}"
        ) from error
    if kind != "LORA":
        raise TrainerError(
            TrainerReason.MODEL_INVALID,
            f"{served.name} is an adapter of the type {kind}; vLLM serves LORA only. Use serving.builtin for it.",
        )
