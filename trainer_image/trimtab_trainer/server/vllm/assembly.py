"""Puts the router together: vLLM's API, versions and HTTP application."""

import asyncio
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.routing import Route

from trimtab_trainer.contract import mounts
from trimtab_trainer.contract.run_config import ServerConfig
from trimtab_trainer.server.front import Front
from trimtab_trainer.server.keeping import keep
from trimtab_trainer.server.metrics import Metrics
from trimtab_trainer.server.operator_channel import operator_endpoint
from trimtab_trainer.server.probes import Probes, application
from trimtab_trainer.server.versions import Versions
from trimtab_trainer.server.vllm.api import Vllm
from trimtab_trainer.server.vllm.loading import AdapterLoader, Target
from trimtab_trainer.server.vllm.proxy import Proxy
from trimtab_trainer.server.vllm.sources import SharedSource
from trimtab_trainer.server.vllm.watching import watch


async def run(config: ServerConfig, path: Path, _scratch: Path, front: Front) -> None:
    """Route behind the front, until cancelled.

    Raises:
        TrainerError: nothing can ever be served until a user acts.
    """
    metrics, operator = Metrics(), operator_endpoint()
    async with Vllm(f"http://127.0.0.1:{mounts.VLLM_PORT}") as vllm:
        loader = AdapterLoader(vllm, SharedSource(Path(mounts.MODELS_DIRECTORY)))
        versions = Versions(config, loader, metrics, is_guided=operator is not None)
        front.app = create_app(vllm, versions, metrics, front)
        watching = asyncio.create_task(watch(vllm, versions))
        try:
            await keep(versions, metrics, path, operator=operator)
        finally:
            watching.cancel()


def create_app(vllm: Vllm, versions: Versions[Target], metrics: Metrics, front: Front) -> Starlette:
    """What clients may ask: vLLM's adapter API is not among it."""
    proxies: list[tuple[str, Any]] = [
        ("/v1/chat/completions", Proxy("chat", vllm, versions, metrics)),
        ("/v1/completions", Proxy("completions", vllm, versions, metrics)),
    ]
    endpoints = [Route(path, proxy, methods=["POST"]) for path, proxy in proxies]
    return application(Probes(vllm, versions, metrics, front), endpoints)
