"""A Job that asks canary and stable version: rows to questions, questions to a real server, answers to a number."""

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from tests.support import serving
from tests.support.http_server import answering
from tests.support.serving import FolderSource, make_config, running, served

from trimtab_trainer.canary.__main__ import measure
from trimtab_trainer.canary.endpoint import Endpoint
from trimtab_trainer.canary.questions import Question, questions
from trimtab_trainer.canary.scores import score
from trimtab_trainer.contract.canary import AnswerMetric, CanaryJobConfig
from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.messages import TerminationMessage
from trimtab_trainer.data.formats import Chat, Completion, Content, Example, Labelled
from trimtab_trainer.errors import TrainerError

WORDS = ("hello there", "what now", "and then?")


def config(metric: str = "exact_match", *, task: str = "causalLanguageModeling", **changes: Any) -> CanaryJobConfig:
    document = {
        "endpoint": "http://127.0.0.1:9",
        "canary": "tone-v2",
        "stable": "tone-v1",
        "task": {task: {}},
        "data": {"uri": "s3://trimtab/held-out.jsonl"},
        "metric": metric,
        "examples": 10,
        "maxTokens": 8,
        "store": {"profile": "default", "bucket": "trimtab"},
    }
    return CanaryJobConfig.model_validate(document | changes)


def examples(*contents: Content) -> list[Example]:
    return [Example(f"s3://trimtab/held-out.jsonl line {number}", one) for number, one in enumerate(contents, start=1)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    made = {"base": serving.save_llama(root / "base")}
    for number in (1, 2):
        made[f"tone-v{number}"] = serving.save_adapter(root / f"v{number}", made["base"], seed=number)
    return made


async def on_a_port(rooms: serving.Running, work: Any) -> Any:
    """The server behind a real port, and the Job's work in a thread beside it."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        server = uvicorn.Server(uvicorn.Config(rooms.front, log_level="warning", lifespan="off"))
        http = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            return await asyncio.to_thread(work, Endpoint(address, pauses=(0.05,) * 40))
        finally:
            server.should_exit = True
            await http


async def test_a_real_server_is_asked_by_version(folders: dict[str, Path]) -> None:
    source = FolderSource(folders["base"], folders)
    versions = make_config(served("tone-v1"), served("tone-v2", weight=0))
    async with running(versions, source) as server:
        said = [serving.text_of(await server.chat(text, model="tone-v2", max_tokens=8)) for text in WORDS]
        rows = examples(*(Chat((("user", text), ("assistant", answer))) for text, answer in zip(WORDS, said, strict=True)))  # fmt: skip
        rows += examples(Completion("what now", said[1]))
        asked = questions(rows, config())
        words: TerminationMessage = await on_a_port(server, lambda endpoint: measure(config(), asked, endpoint))
    (numbers,) = words.gates
    assert (float(numbers.result or "nan"), words.champion) == (1.0, "tone-v1")
    assert float(numbers.champion or "nan") < 1.0, "the other version answers otherwise"


async def test_a_completion_is_asked_plainly_where_there_is_no_chat_template(tmp_path: Path) -> None:
    base = serving.save_llama(tmp_path / "base")
    tokenizer = serving.tiny_tokenizer(template=None)
    for path in base.glob("chat_template*"):
        path.unlink()
    tokenizer.save_pretrained(base)
    adapter = serving.save_adapter(tmp_path / "v1", base, seed=1)
    source = FolderSource(base, {"tone-v1": adapter})
    async with running(make_config(served("tone-v1")), source) as server:
        body = {"model": "tone-v1", "prompt": "what now", "temperature": 0, "max_tokens": 8}
        reply: httpx.Response = await server.client.post("/v1/completions", json=body)
        rows = examples(Completion("what now", reply.json()["choices"][0]["text"]))
        own = config(canary="tone-v1")
        words = await on_a_port(server, lambda endpoint: measure(own, questions(rows, own), endpoint))
        chat = questions(examples(Chat((("user", "what now"), ("assistant", "x")))), own)
        with pytest.raises(TrainerError, match=r"line 1: tone-v1 cannot be asked this: 400: .*chat template") as error:
            await on_a_port(server, lambda endpoint: measure(own, chat, endpoint))
    assert float(words.gates[0].result) == 1.0
    assert error.value.reason is TrainerReason.DATASET_INVALID


class Deaf(Endpoint):
    """Servers of one version, which always say the same."""

    def __init__(self, model: str, answer: str) -> None:
        super().__init__("http://127.0.0.1:9")
        self._model, self._answer = model, answer

    def ask(self, question: Question, model: str) -> str:
        assert (model, bool(question.path)) == (self._model, True), "it has no other version"
        return self._answer


def test_versions_with_servers_of_their_own_are_asked_there() -> None:
    own = config()
    asked = questions(examples(Completion("what now", "yes")), own)
    words = measure(own, asked, Deaf("tone-v2", "yes"), stable=Deaf("tone-v1", "no"))
    assert [(float(each.result or "nan"), float(each.champion or "nan")) for each in words.gates] == [(1.0, 0.0)]


@contextmanager
def good_after(*codes: int) -> Iterator[str]:
    """A server that answers `good` after these codes."""
    left = list(codes)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            code = left.pop(0) if left else 200
            body = json.dumps({"data": [{"label": "good"}], "error": {"message": "not now"}}).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with answering(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as url:
        yield url


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        pytest.param((), "good", id="at once"),
        pytest.param((503, 404, 429), "good", id="a server that starts anew"),
        pytest.param((503,) * 9, "TrainerError", id="one that stays away"),
        pytest.param((400,), "DatasetInvalid", id="a row that it refuses"),
    ],
)
def test_patience(codes: tuple[int, ...], expected: str) -> None:
    (question,) = questions(examples(Labelled("fine", "good")), config("accuracy", task="sequenceClassification"))
    with good_after(*codes) as address:
        try:
            said = Endpoint(address, pauses=(0.0,) * 4).ask(question, "tone-v2")
        except TrainerError as error:
            said = error.reason.value
    assert said == expected


@pytest.mark.parametrize(
    ("metric", "labels", "pairs", "expected"),
    [
        pytest.param("exact_match", False, [("yes", " yes\n"), ("no", "No")], 0.5, id="white space says nothing"),
        pytest.param("f1", False, [("a b c", "a b d e"), ("x", "x")], (4 / 7 + 1) / 2, id="shared words"),
        pytest.param("f1", False, [("x", "")], 0.0, id="no answer"),
        pytest.param("accuracy", True, [("a", "a"), ("b", "a"), ("b", "b")], 2 / 3, id="accuracy"),
        pytest.param("precision", True, [("a", "a"), ("b", "a"), ("b", "b")], 0.75, id="macro precision"),
        pytest.param("recall", True, [("a", "a"), ("b", "a"), ("b", "b")], 0.75, id="macro recall"),
        pytest.param("f1", True, [("a", "a"), ("b", "a"), ("b", "b")], 2 / 3, id="macro f1"),
    ],
)
def test_scores(metric: AnswerMetric, pairs: list[tuple[str, str]], expected: float, *, labels: bool) -> None:
    assert score(metric, pairs, labels=labels) == pytest.approx(expected)


def test_the_same_rows_are_asked_every_time() -> None:
    rows = examples(*(Completion(f"question {number}", "answer") for number in range(50)))
    chosen = questions(rows, config())
    assert len(chosen) == 10
    assert chosen == questions(list(reversed(rows)), config())
    with pytest.raises(TrainerError, match="has no row that can be asked"):
        questions(examples(Completion("question", " ")), config())
