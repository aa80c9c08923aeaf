"""The server and its operator: states and counters go up, weights come down, and nothing of it disturbs serving."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.support.http_server import answering
from tests.support.serving import FolderSource, Running, eventually, make_config, running, served

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.run_config import ServerConfig
from trimtab_trainer.contract.serving import ServerReply, ServerReport, VersionCounters, config_digest
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.reporting.progress import StatusEndpoint
from trimtab_trainer.server.config_file import follow_file
from trimtab_trainer.server.operator_channel import OperatorChannel

BAD_BYTES = TrainerError(TrainerReason.DIGEST_MISMATCH, "adapter_model.safetensors has sha256 f00.")


class Operator:
    """A status endpoint on loopback, in threads of its own; it waits for news as the real one does."""

    def __init__(self) -> None:
        self.config: ServerConfig | None = None
        self.reports: list[ServerReport] = []
        self.away = False
        self._changed = threading.Condition()

    def tell(self, config: ServerConfig) -> None:
        with self._changed:
            self.config = config
            self._changed.notify_all()

    def answer(self, body: bytes) -> ServerReply:
        report = ServerReport.model_validate_json(body)
        with self._changed:
            self.reports.append(report)
            self._changed.wait_for(lambda: self._digest() != report.heard, min(report.wait_seconds, 0.2))
            known = self._digest() == report.heard
            return ServerReply(config=None if known else self.config, digest=self._digest(), report_seconds=0.2)

    def counters(self, version: str) -> VersionCounters | None:
        """What the newest report says that a version counted."""
        return next((each for each in self.reports[-1].counters if each.name == version), None)

    def states(self) -> dict[str, str]:
        return {version.name: version.state for version in self.reports[-1].versions} if self.reports else {}

    def _digest(self) -> str:
        return config_digest(self.config) if self.config else ""


@pytest.fixture
def operator() -> Operator:
    return Operator()


@pytest.fixture
def url(operator: Operator) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            reply = b"{}" if operator.away else json.dumps(operator.answer(body).to_json()).encode()
            self.send_response(503 if operator.away else 200)
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *_: Any) -> None:
            pass

    with answering(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as at:
        yield f"{at}/server"


@asynccontextmanager
async def guided(config: ServerConfig, source: FolderSource, url: str, *, wait: bool = True) -> AsyncIterator[Running]:
    async with running(config, source, wait=wait, is_guided=True) as server:
        channel = OperatorChannel(StatusEndpoint(url, {}), server.versions, server.rooms.metrics)
        task = asyncio.create_task(channel.run())
        try:
            yield server
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_weights_come_while_requests_are_answered(source: FolderSource, operator: Operator, url: str) -> None:
    async with guided(make_config(served("tone-v1")), source, url) as server:
        moved = make_config(served("tone-v1", weight=0), served("tone-v2"), revision=2)
        operator.tell(moved)
        await eventually(lambda: operator.states() == {"tone-v1": "Ready", "tone-v2": "Ready"})
        await eventually(lambda: operator.reports[-1].digest == config_digest(moved))
        answers = await asyncio.gather(*(server.chat("Hi", max_tokens=2) for _ in range(5)))
        assert {answer.json()["model"] for answer in answers} == {"tone-v2"}
        await eventually(lambda: (operator.counters("tone-v2") or VersionCounters(name="")).requests == 5)
        counted = operator.counters("tone-v2")
        assert counted is not None
        assert sum(counted.seconds.counts) == sum(counted.answer_tokens.counts) == 5
        assert counted.answer_tokens.total == sum(answer.json()["usage"]["completion_tokens"] for answer in answers)
        assert counted.cut_answers == sum(
            answer.json()["choices"][0]["finish_reason"] == "length" for answer in answers
        )
        operator.tell(make_config(served("tone-v2"), revision=3))
        await eventually(lambda: operator.states() == {"tone-v2": "Ready"})


async def test_a_server_stays_ready_while_a_canary_loads(source: FolderSource, operator: Operator, url: str) -> None:
    gate = threading.Event()
    load, source.version = source.version, lambda *args: gate.wait() and load(*args)  # type: ignore[method-assign]
    gate.set()
    async with guided(make_config(served("tone-v1")), source, url) as server:
        gate.clear()
        operator.tell(make_config(served("tone-v1"), served("tone-v2", weight=0), revision=2))
        await eventually(lambda: operator.states().get("tone-v2") == "Loading")
        assert (await server.client.get("/readyz")).status_code == 200
        assert (await server.chat("Hi", max_tokens=1)).status_code == 200
        gate.set()
        await eventually(lambda: operator.states().get("tone-v2") == "Ready")


async def test_a_refused_version_is_reported_and_the_remedy_followed(
    source: FolderSource, operator: Operator, url: str
) -> None:
    source.problems["tone-v1"] = BAD_BYTES
    async with guided(make_config(served("tone-v1")), source, url, wait=False) as server:
        await eventually(lambda: operator.states() == {"tone-v1": "Refused"})
        (version,) = operator.reports[-1].versions
        assert (version.reason, version.message) == (TrainerReason.DIGEST_MISMATCH, str(BAD_BYTES))
        assert not server.follower.done(), "a crash loop would wait minutes for the remedy"
        operator.tell(make_config(served("tone-v2"), revision=1))
        await eventually(lambda: server.versions.ready)
        assert (await server.chat("Hi", max_tokens=1)).json()["model"] == "tone-v2"


async def test_without_the_operator_everything_goes_on(source: FolderSource, operator: Operator, url: str) -> None:
    operator.away = True
    async with guided(make_config(served("tone-v1")), source, url) as server:
        assert (await server.chat("Hi", max_tokens=1)).status_code == 200
        assert not operator.reports


async def test_what_a_running_server_cannot_follow_is_told(source: FolderSource, operator: Operator, url: str) -> None:
    async with guided(make_config(served("tone-v1")), source, url) as server:
        other = make_config(served("tone-v2"), baseModel={"uri": "s3://trimtab/other"}, revision=2)
        operator.tell(other)
        await eventually(lambda: operator.reports and "base_model" in operator.reports[-1].config_problem)
        assert (operator.reports[-1].heard, operator.reports[-1].digest) == (config_digest(other), "")
        assert (await server.chat("Hi", max_tokens=1)).json()["model"] == "tone-v1"


async def test_an_older_file_does_not_undo_what_the_operator_said(
    source: FolderSource, operator: Operator, url: str, tmp_path: Path
) -> None:
    file = tmp_path / "server-config.json"
    file.write_text(make_config(served("tone-v1"), revision=1).model_dump_json(by_alias=True))
    async with guided(make_config(served("tone-v1"), revision=1), source, url) as server:
        operator.tell(make_config(served("tone-v2"), revision=2))
        await eventually(lambda: operator.states() == {"tone-v2": "Ready"})
        follower = asyncio.create_task(follow_file(file, server.versions, poll_seconds=0.01))
        file.write_text(make_config(served("tone-v1", weight=90), revision=1).model_dump_json(by_alias=True))
        heard = len(operator.reports)
        await eventually(lambda: len(operator.reports) > heard + 2)
        assert server.versions.names()[1:2] == ["tone-v2"]
        file.write_text(make_config(served("tone-v1"), revision=3).model_dump_json(by_alias=True))
        await eventually(lambda: "tone-v1" in server.versions.names())
        follower.cancel()


async def test_without_stickiness_a_user_draws_lots(source: FolderSource) -> None:
    config = make_config(served("tone-v1", weight=50), served("tone-v2", weight=50), sticky=False)
    async with running(config, source) as server:
        answers = await asyncio.gather(*(server.chat("Hi", user="anna", max_tokens=1) for _ in range(40)))
        assert {answer.json()["model"] for answer in answers} == {"tone-v1", "tone-v2"}
