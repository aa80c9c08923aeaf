"""A router in this process, before a stand-in for vLLM on loopback."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn
from tests.support.serving import PATIENCE, FolderSource, eventually
from tests.support.vllm_stand_in import StandIn

from trimtab_trainer.contract.run_config import ServerConfig
from trimtab_trainer.server.front import Front, listen
from trimtab_trainer.server.metrics import Metrics
from trimtab_trainer.server.versions import Versions
from trimtab_trainer.server.vllm.api import Vllm
from trimtab_trainer.server.vllm.assembly import create_app
from trimtab_trainer.server.vllm.loading import AdapterLoader, Target
from trimtab_trainer.server.vllm.watching import watch


class _Listening(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The test runner's stay its own."""
        yield


@asynccontextmanager
async def listening(app: Any) -> AsyncIterator[str]:
    """An ASGI application on a port of loopback; its URL."""
    socket = listen(0, "127.0.0.1")
    server = _Listening(uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=1))
    task = asyncio.create_task(server.serve(sockets=[socket]))
    try:
        yield f"http://127.0.0.1:{socket.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


@dataclass
class Routed:
    """A router in this process, before a stand-in."""

    client: httpx.AsyncClient
    versions: Versions[Target]
    metrics: Metrics
    vllm: StandIn

    async def chat(self, *, model: str = "tone", **options: Any) -> httpx.Response:
        """One chat request."""
        body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], **options}
        return await self.client.post("/v1/chat/completions", json=body)


@asynccontextmanager
async def routed(
    config: ServerConfig, source: FolderSource, vllm: StandIn, *, wait: bool = True
) -> AsyncIterator[Routed]:
    """Router and stand-in, each on a port of its own."""
    metrics, front = Metrics(), Front()
    async with listening(vllm.app) as below, Vllm(below) as api:
        versions = Versions(config, AdapterLoader(api, source), metrics, is_guided=True)
        front.app = create_app(api, versions, metrics, front)

        async def follow() -> None:
            await versions.load_base()
            await versions.follow()

        tasks = [asyncio.create_task(follow()), asyncio.create_task(watch(api, versions, look_seconds=0.02))]
        try:
            async with listening(front) as url, httpx.AsyncClient(base_url=url, timeout=PATIENCE) as client:
                if wait:
                    await eventually(lambda: versions.ready)
                yield Routed(client, versions, metrics, vllm)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
