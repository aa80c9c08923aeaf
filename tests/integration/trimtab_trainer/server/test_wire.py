"""Over a real socket: OpenAI's own client, clients that leave, the end of a pod, a configuration file that is swapped."""

import asyncio
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from tests.support.serving import PATIENCE, FolderSource, eventually, make_config, running, served, text_of

from trimtab_trainer.contract.run_config import ServerConfig
from trimtab_trainer.server import front as front_module
from trimtab_trainer.server.config_file import follow_file
from trimtab_trainer.server.front import Front, Server, listen
from trimtab_trainer.server.generation import GenerationLane


@dataclass
class Wire:
    """A server on a port of the loopback interface."""

    url: str
    rooms: Any
    server: Server
    task: "asyncio.Task[None]"

    def openai(self) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=self.url + "/v1", api_key="none", max_retries=0, timeout=PATIENCE)


@asynccontextmanager
async def wire(config: ServerConfig, source: FolderSource) -> AsyncIterator[Wire]:
    listener = listen(0, "127.0.0.1")
    async with running(config, source) as inside:
        server = Server(inside.front, grace_seconds=PATIENCE)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        await eventually(lambda: server.started)
        try:
            yield Wire(f"http://127.0.0.1:{listener.getsockname()[1]}", inside.rooms, server, task)
        finally:
            server.stop()
            await task


async def test_openais_client(source: FolderSource) -> None:
    async with wire(make_config(served("tone-v1")), source) as server, server.openai() as client:
        assert [model.id async for model in client.models.list()] == ["tone", "tone-v1", "base"]
        asked: dict[str, Any] = {
            "model": "tone",
            "messages": [{"role": "user", "content": "Hi"}],
            "temperature": 0,
            "max_tokens": 8,
        }
        answer = await client.chat.completions.create(**asked)
        assert answer.usage is not None
        assert (answer.model, answer.usage.completion_tokens) == ("tone-v1", 8)
        chunks = [
            chunk
            async for chunk in await client.chat.completions.create(
                **asked, stream=True, stream_options={"include_usage": True}
            )
        ]
        streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert streamed == answer.choices[0].message.content
        assert chunks[-1].usage == answer.usage
        raw = await client.completions.with_raw_response.create(model="base", prompt="Hi", max_tokens=5)
        assert raw.headers["x-trimtab-version"] == "base"
        assert raw.parse().object == "text_completion"
        pieces = [
            chunk
            async for chunk in await client.completions.create(model="tone-v1", prompt="Hi", max_tokens=5, stream=True)
        ]
        assert pieces[-1].choices[0].finish_reason in {"length", "stop"}
        with pytest.raises(openai.NotFoundError, match="there are: tone, tone-v1, base"):
            await client.chat.completions.create(**{**asked, "model": "gpt-4"})
        with pytest.raises(openai.BadRequestError, match="temperature"):
            await client.chat.completions.create(**{**asked, "temperature": 9})


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """The engine stops in the middle of every answer until this is set."""
    opened, step = threading.Event(), GenerationLane.step

    def gated(lane: GenerationLane) -> bool:
        if any(row.tokens >= 5 for row in lane._running):
            opened.wait(PATIENCE)
        return step(lane)

    monkeypatch.setattr(GenerationLane, "step", gated)
    return opened


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_frees_its_place(stream: bool, source: FolderSource, gate: threading.Event) -> None:  # noqa: FBT001
    body = {
        "model": "tone",
        "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": 150,
        "stream": stream,
        "seed": 1,
    }
    async with wire(make_config(served("tone-v1"), maxConcurrentRequests=1), source) as server:
        (lane,) = server.rooms.engine.lanes
        async with httpx.AsyncClient(timeout=PATIENCE) as leaving:
            request = asyncio.create_task(leaving.post(server.url + "/v1/chat/completions", json=body))
            await eventually(lambda: lane.running == 1)
            request.cancel()
        await eventually(lambda: server.rooms.open_requests == 0)
        gate.set()
        async with httpx.AsyncClient(timeout=PATIENCE) as client:
            answer = await client.post(
                server.url + "/v1/chat/completions", json={**body, "max_tokens": 3, "stream": False}
            )
            assert answer.status_code == 200
            metrics = (await client.get(server.url + "/metrics")).text
        assert 'trimtab_server_requests_total{code="499",endpoint="chat",version="tone-v1"} 1.0' in metrics
        # The answer that nobody wanted was not written to its end.
        assert 'trimtab_server_completion_tokens_total{version="tone-v1"} 3.0' in metrics


async def test_sigterm_finishes_open_answers(
    source: FolderSource, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front_module, "STILL_ACCEPTING_SECONDS", 0.3)
    body = {"model": "tone", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 12, "temperature": 0}
    async with wire(make_config(served("tone-v1")), source) as server, httpx.AsyncClient(timeout=PATIENCE) as client:
        request = asyncio.create_task(client.post(server.url + "/v1/chat/completions", json=body))
        await eventually(lambda: server.rooms.open_requests == 1)
        server.server.handle_exit(signal.SIGTERM, None)
        assert (await client.get(server.url + "/readyz")).status_code == 503
        late = asyncio.create_task(client.post(server.url + "/v1/chat/completions", json=body))
        await eventually(lambda: server.rooms.open_requests == 2)
        await eventually(lambda: server.server.should_exit)
        gate.set()
        assert text_of(await request) == text_of(await late)
        await asyncio.wait_for(server.task, PATIENCE)
        with pytest.raises(httpx.ConnectError):
            await client.get(server.url + "/healthz")


async def test_a_swapped_configuration_file_is_followed(source: FolderSource, tmp_path: Path) -> None:
    def swap(number: int, content: str) -> None:
        """As the kubelet does: a new folder, and a link to it that is replaced at once."""
        folder = tmp_path / f"..{number}"
        folder.mkdir()
        (folder / "server-config.json").write_text(content)
        link = tmp_path / "..new"
        link.symlink_to(folder.name)
        link.replace(tmp_path / "..data")

    first = make_config(served("tone-v1"))
    swap(1, first.model_dump_json(by_alias=True))
    path = tmp_path / "..data" / "server-config.json"
    async with running(first, source) as server:
        follower = asyncio.create_task(follow_file(path, server.versions, poll_seconds=0.01))
        swap(2, '{"broken": true}')
        await eventually(lambda: "ServerConfig is not valid" in server.versions.config_problem)
        assert (await server.chat("Hi")).json()["model"] == "tone-v1"
        swap(3, make_config(served("tone-v2")).model_dump_json(by_alias=True))
        await eventually(lambda: [version.served.name for version in server.versions.report()] == ["tone-v2"])
        assert (await server.chat("Hi")).json()["model"] == "tone-v2"
        assert server.versions.config_problem == ""
        follower.cancel()


async def test_the_port_answers_before_the_models_code_is_there() -> None:
    front, listener = Front(), listen(0, "127.0.0.1")
    server = Server(front, grace_seconds=PATIENCE)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE) as client:
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/readyz")).status_code == 503
        answer = await client.post("/v1/chat/completions", json={})
        assert (answer.status_code, answer.headers["retry-after"], answer.json()["error"]["code"]) == (
            503,
            "5",
            "model_not_ready",
        )
        server.handle_exit(signal.SIGTERM, None)
        await asyncio.wait_for(task, PATIENCE)
