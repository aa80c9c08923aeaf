"""What the server answers: the same as transformers and peft, alone or in company, whole or streamed."""

import asyncio
from collections.abc import AsyncIterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from tests.support.serving import FolderSource, Running, events, make_config, running, save_adapter, served, text_of
from transformers import AutoModelForCausalLM, AutoTokenizer

from trimtab_trainer.server.rows import Rows

PROMPTS = ["Hello", "What is a trim tab?", "x" * 90, "Grüße, 世界 🌊"]
MODELS = ["base", "tone-v1", "tone-v2", "tone-v3"]


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(name="server", scope="module", loop_scope="module")
async def server_fixture(folders: dict[str, Path]) -> AsyncIterator[Running]:
    """Three adapters and a whole model; all traffic goes to the first one."""
    versions = [served("tone-v1"), *(served(f"tone-v{number}", weight=0) for number in (2, 3))]
    config = make_config(*versions, served("tone-v9", weight=0, form="safetensors"))
    async with running(config, FolderSource(folders["base"], folders)) as server:
        yield server


@cache
def loaded(folder: Path, adapter: Path | None = None) -> Any:
    """A model as the libraries load it."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    return (model if adapter is None else PeftModel.from_pretrained(model, adapter)).eval()


def reference(folders: dict[str, Path], name: str, content: str, tokens: int) -> str:
    """Greedy decoding by the libraries themselves."""
    is_whole = name in {"base", "tone-v9"}
    model = loaded(folders[name]) if is_whole else loaded(folders["base"], folders[name])
    tokenizer = AutoTokenizer.from_pretrained(folders["base"])
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    with torch.inference_mode():
        answer = model.generate(**prompt, max_new_tokens=tokens, do_sample=False)
    return str(tokenizer.decode(answer[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True))


@pytest.mark.parametrize("name", [*MODELS, "tone-v9"])
async def test_answers_equal_those_of_transformers_and_peft(
    name: str, folders: dict[str, Path], server: Running
) -> None:
    for prompt in PROMPTS:
        answer = await server.chat(prompt, model=name)
        assert text_of(answer) == reference(folders, name, prompt, 24)
        assert answer.json()["model"] == answer.headers["x-trimtab-version"] == name


async def test_requests_of_many_adapters_in_one_batch_get_what_they_get_alone(server: Running) -> None:
    cases = [
        (model, prompt, 5 + 7 * index % 40)
        for index, (model, prompt) in enumerate((m, p) for m in MODELS for p in PROMPTS)
    ]
    alone = [text_of(await server.chat(prompt, model=model, max_tokens=tokens)) for model, prompt, tokens in cases]
    together = await asyncio.gather(
        *(server.chat(prompt, model=model, max_tokens=tokens) for model, prompt, tokens in cases)
    )
    assert [text_of(answer) for answer in together] == alone
    # An adapter is not the base model, and not another adapter.
    assert len({text_of(await server.chat("Hello", model=model)) for model in MODELS}) == len(MODELS)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="greedy"),
        pytest.param({"max_tokens": 1}, id="one token"),
        pytest.param({"temperature": 1.3, "seed": 7}, id="sampled with a seed"),
        pytest.param({"temperature": 1.0, "top_p": 0.5, "seed": 7}, id="nucleus"),
        pytest.param({"max_tokens": 80, "stop": ["e", "aa"]}, id="stop sequences"),
    ],
)
@pytest.mark.parametrize("prompt", PROMPTS)
async def test_streamed_text_is_the_whole_text(prompt: str, options: dict[str, Any], server: Running) -> None:
    whole = (await server.chat(prompt, **options)).json()
    streamed = await server.chat(prompt, stream=True, stream_options={"include_usage": True}, **options)
    assert streamed.headers["content-type"].startswith("text/event-stream")
    *chunks, usage, done = events(streamed.text)
    assert done == "[DONE]"
    assert usage["choices"] == []
    assert usage["usage"] == whole["usage"]
    assert (
        "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
        == whole["choices"][0]["message"]["content"]
    )
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]


async def test_completions_read_the_prompt_as_it_is(folders: dict[str, Path], server: Running) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folders["base"])
    body = {"model": "tone", "temperature": 0, "max_tokens": 12}
    by_text = (await server.client.post("/v1/completions", json={**body, "prompt": "Hello"})).json()
    by_list = (await server.client.post("/v1/completions", json={**body, "prompt": ["Hello"]})).json()
    tokens = tokenizer("Hello")["input_ids"]
    by_tokens = (await server.client.post("/v1/completions", json={**body, "prompt": tokens})).json()
    assert by_text["choices"] == by_tokens["choices"] == by_list["choices"]
    assert by_text["object"] == "text_completion"
    assert by_text["usage"] == {"prompt_tokens": 5, "completion_tokens": 12, "total_tokens": 17}
    stream = await server.client.post("/v1/completions", json={**body, "prompt": "Hello", "stream": True})
    *chunks, done = events(stream.text)
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == by_text["choices"][0]["text"]
    assert done == "[DONE]"


async def test_the_end_of_turn_token_ends_the_answer_and_is_not_shown(server: Running) -> None:
    seeds = range(16)
    answers = await asyncio.gather(*(server.chat("Hi", temperature=2, seed=seed, max_tokens=120) for seed in seeds))
    ended = [answer.json() for answer in answers if answer.json()["choices"][0]["finish_reason"] == "stop"]
    assert ended, "of 16 random answers of 120 tokens from 259, some end"
    for answer in ended:
        assert "</s>" not in answer["choices"][0]["message"]["content"]
        assert answer["usage"]["completion_tokens"] < 120


async def test_a_prompt_longer_than_one_step_reads_in_pieces(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = text_of(await server.chat("y" * 120))
    monkeypatch.setattr("trimtab_trainer.server.generation.PROMPT_TOKENS_PER_STEP", 16)
    answers = await asyncio.gather(server.chat("y" * 120), server.chat("Hello"), server.chat("y" * 120))
    assert text_of(answers[0]) == text_of(answers[2]) == whole


async def test_a_failed_step_ends_its_requests_and_no_others(
    source: FolderSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    advance = Rows.advance
    failures = [RuntimeError("out of memory")]

    def fails_once(rows: Rows, tokens: list[list[int]]) -> Any:
        if failures and rows.lengths[0] > 0:
            raise failures.pop()
        return advance(rows, tokens)

    async with running(make_config(served("tone-v1")), source) as server:
        whole = text_of(await server.chat("Hi"))
        monkeypatch.setattr(Rows, "advance", fails_once)
        failed = await server.chat("Hi")
        assert (failed.status_code, failed.json()["error"]["type"]) == (500, "server_error")
        failures.append(RuntimeError("out of memory"))
        *_, error, done = events((await server.chat("Hi", stream=True)).text)
        assert (error["error"]["type"], done) == ("server_error", "[DONE]")
        assert text_of(await server.chat("Hi")) == whole
        metrics = (await server.client.get("/metrics")).text
        assert 'trimtab_server_errors_total{endpoint="chat",version="tone-v1"} 2.0' in metrics


async def test_broken_weights_fail_their_own_requests_only(folders: dict[str, Path], tmp_path: Path) -> None:
    broken = save_adapter(tmp_path / "broken", folders["base"], seed=4)
    weights = load_file(broken / "adapter_model.safetensors")
    save_file(
        {name: torch.full_like(value, torch.nan) for name, value in weights.items()},
        broken / "adapter_model.safetensors",
    )
    source = FolderSource(folders["base"], {**folders, "tone-v2": broken})
    async with running(make_config(served("tone-v1"), served("tone-v2")), source) as server:
        alone = text_of(await server.chat("Hi", model="tone-v1"))
        answers = await asyncio.gather(*(server.chat("Hi", model=f"tone-v{1 + number % 2}") for number in range(6)))
        assert [answer.status_code for answer in answers] == [200, 500] * 3
        assert {text_of(answer) for answer in answers[::2]} == {alone}
