"""What a request must look like, and what it is told when it does not."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.support.serving import FolderSource, Running, make_config, running, served

CHAT: dict[str, Any] = {
    "model": "tone",
    "messages": [{"role": "user", "content": "Hi"}],
    "max_tokens": 2,
    "temperature": 0,
}
CHAT_URL, TEXT_URL, CLASSIFY_URL = "/v1/chat/completions", "/v1/completions", "/v1/classify"

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(name="server", scope="module", loop_scope="module")
async def server_fixture(folders: dict[str, Path]) -> AsyncIterator[Running]:
    async with running(make_config(served("tone-v1")), FolderSource(folders["base"], folders)) as server:
        yield server


async def check(server: Running, url: str, body: Any, status: int, param: str | None, words: str) -> None:
    answer = await server.client.post(url, json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (status, param), error
    assert words in error["message"]
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("change", "status", "param", "words"),
    [
        pytest.param({"model": "other"}, 404, "model", "there are: tone, tone-v1, base", id="unknown model"),
        pytest.param({"model": None}, 400, "model", "required", id="no model"),
        pytest.param({"messages": []}, 400, "messages", "at least 1 item", id="no messages"),
        pytest.param({"messages": "Hi"}, 400, "messages", "valid list", id="messages is a text"),
        pytest.param(
            {"messages": [{"role": "tool", "content": "x"}]}, 400, "messages.0.role", "'system'", id="unknown role"
        ),
        pytest.param(
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            400,
            "messages.0.content",
            "valid string",
            id="an image",
        ),
        pytest.param(
            {"messages": [{"role": "assistant", "content": "x"}]},
            400,
            "messages",
            "the user begins",
            id="refused by the template",
        ),
        pytest.param({"temperature": 3}, 400, "temperature", "less than or equal to 2", id="too hot"),
        pytest.param({"top_p": 0}, 400, "top_p", "greater than 0", id="top_p 0"),
        pytest.param({"max_tokens": 0}, 400, "max_tokens", "greater than or equal to 1", id="no tokens"),
        pytest.param({"n": 2}, 400, "n", "not supported", id="several choices"),
        pytest.param({"logprobs": True}, 400, "logprobs", "not supported", id="logprobs"),
        pytest.param({"tools": [{"type": "function"}]}, 400, "tools", "not supported", id="tools"),
        pytest.param(
            {"response_format": {"type": "json_object"}}, 400, "response_format", "not supported", id="JSON mode"
        ),
        pytest.param(
            {"stream_options": {"include_usage": True}}, 400, "stream_options", "stream", id="options without a stream"
        ),
        pytest.param({"max_token": 5}, 400, "max_token", "is not a field", id="a typing error"),
        pytest.param({"stop": ["a"] * 5}, 400, "stop", "at most 4", id="too many stop sequences"),
        pytest.param(
            {"messages": [{"role": "user", "content": "x" * 300}]},
            400,
            "messages",
            "200 tokens of prompt",
            id="too long a prompt",
        ),
        pytest.param({"max_tokens": 195}, 400, "messages", "the answer may have 195", id="no room for the answer"),
    ],
)
async def test_chat_refuses(change: dict[str, Any], status: int, param: str, words: str, server: Running) -> None:
    await check(server, CHAT_URL, {**CHAT, **change}, status, param, words)


@pytest.mark.parametrize(
    ("change", "param", "words"),
    [
        pytest.param({"prompt": ""}, "prompt", "must not be empty", id="empty"),
        pytest.param({"prompt": ["a", "b"]}, "prompt", "list of 2", id="several prompts"),
        pytest.param({"prompt": [1, 999]}, "prompt", "0 to 258", id="tokens out of range"),
        pytest.param({"prompt": "x", "echo": True}, "echo", "not supported", id="echo"),
        pytest.param({}, "prompt", "required", id="none"),
    ],
)
async def test_completions_refuse(change: dict[str, Any], param: str, words: str, server: Running) -> None:
    await check(server, TEXT_URL, {"model": "tone", **change}, 400, param, words)


async def test_other_refusals(server: Running) -> None:
    await check(server, CLASSIFY_URL, {"model": "tone", "input": "x"}, 400, "model", "is a language model")
    await check(server, CHAT_URL, ["x"], 400, None, "JSON object")
    broken = await server.client.post(CHAT_URL, content=b"{")
    assert (broken.status_code, broken.json()["error"]["message"][:21]) == (400, "The body must be JSON")
    large = await server.client.post(CHAT_URL, content=b"[" + b" " * (9 << 20) + b"]")
    assert large.status_code == 413
    assert (await server.client.get(CHAT_URL)).status_code == 405
    assert (await server.client.get("/v2")).json()["error"]["type"] == "invalid_request_error"


async def test_what_asks_for_nothing_is_accepted(server: Running) -> None:
    harmless = {
        "n": 1,
        "logprobs": False,
        "tools": [],
        "frequency_penalty": 0,
        "metadata": {"a": "b"},
        "top_p": None,
        "stop": None,
    }
    content = [{"type": "text", "text": "H"}, {"type": "text", "text": "i"}]
    plain = await server.client.post(CHAT_URL, json=CHAT)
    dressed = await server.client.post(
        CHAT_URL, json={**CHAT, **harmless, "messages": [{"role": "user", "content": content, "name": "anna"}]}
    )
    assert dressed.json()["choices"] == plain.json()["choices"]


async def test_a_full_queue_says_when_to_come_back(source: FolderSource) -> None:
    config = make_config(served("tone-v1"), maxConcurrentRequests=1, maxWaitingRequests=0)
    async with running(config, source) as server:
        with server.rooms.place():
            refused = await server.chat("Hi")
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert (await server.chat("Hi")).status_code == 200
