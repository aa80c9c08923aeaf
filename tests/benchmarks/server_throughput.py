"""Tokens per second of the built-in server at 1, 4 and 8 concurrent requests, against plain `model.generate` one by one.

    python tests/benchmarks/server_throughput.py MODEL_DIRECTORY [--tokens 48] [--requests 16]

The adapters are random LoRA adapters (r=16, all linear layers). Every request gets exactly --tokens tokens.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trimtab_trainer.quota import limit_threads, thread_count

limit_threads()

import httpx  # noqa: E402
import torch  # noqa: E402
from peft import LoraConfig, get_peft_model  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: E402

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.support.serving import FolderSource, make_config, running, served  # noqa: E402

from trimtab_trainer.server.front import Server, listen  # noqa: E402
from trimtab_trainer.server.generation import GenerationLane  # noqa: E402

QUESTIONS = (
    "What is the capital of France?",
    "Write a short note to a colleague about tomorrow's meeting on the new product.",
    "List five fruits and say in one sentence each why they are healthy for children.",
    "Explain to a beginner how a rudder and its trim tab steer a large ship.",
)


@dataclass(frozen=True)
class Measured:
    """One row of the table."""

    name: str
    concurrent: int
    tokens_per_second: float
    tokens_per_cpu_second: float
    """Of this process, client included: comparable while other processes use the machine too."""
    first_text_seconds: float
    answer_seconds: float


def make_adapters(base: Path, directory: Path, count: int) -> dict[str, Path]:
    """Random adapters."""
    folders = {}
    for number in range(1, count + 1):
        torch.manual_seed(number)
        model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        settings = LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM")
        folders[f"tone-v{number}"] = directory / str(number)
        get_peft_model(model, settings).save_pretrained(directory / str(number), save_embedding_layers=False)
    return folders


def measure_generate(base: Path, *, requests: int, tokens: int, adapter: bool) -> Measured:
    """The libraries, one request after another."""
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    if adapter:
        model = get_peft_model(model, LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM")).eval()
    tokenizer = AutoTokenizer.from_pretrained(base)
    seconds, cpu = [], 0.0
    with torch.inference_mode():
        for number in range(-1, requests):
            message = {"role": "user", "content": QUESTIONS[number % len(QUESTIONS)]}
            prompt = tokenizer.apply_chat_template(
                [message], add_generation_prompt=True, return_tensors="pt", return_dict=True
            )
            if number == 0:
                seconds, cpu = [], time.process_time()  # the one before warmed up
            started = time.perf_counter()
            model.generate(**prompt, min_new_tokens=tokens, max_new_tokens=tokens, do_sample=False)
            seconds.append(time.perf_counter() - started)
    cpu, total = time.process_time() - cpu, requests * tokens
    name = "generate, adapter" if adapter else "generate, base"
    return Measured(name, 1, total / sum(seconds), total / cpu, float("nan"), statistics.median(seconds))


async def ask(client: httpx.AsyncClient, model: str, number: int, tokens: int) -> tuple[float, float]:
    """One streamed request; seconds to its first text and to its end."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": QUESTIONS[number % len(QUESTIONS)]}],
        "max_tokens": tokens,
        "temperature": 0,
        "stream": True,
    }
    started, first = time.perf_counter(), 0.0
    async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            if not first and line.startswith("data: {") and json.loads(line[6:])["choices"][0]["delta"].get("content"):
                first = time.perf_counter() - started
    return first, time.perf_counter() - started


async def measure_server(
    url: str, name: str, models: list[str], *, concurrent: int, requests: int, tokens: int
) -> Measured:
    """Some clients, each asking again as soon as it is answered."""
    numbers = iter(range(requests))
    times: list[tuple[float, float]] = []

    async def one_client(client: httpx.AsyncClient) -> None:
        times.extend([await ask(client, models[number % len(models)], number, tokens) for number in numbers])

    async with httpx.AsyncClient(base_url=url, timeout=600) as client:
        started, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(one_client(client) for _ in range(concurrent)))
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    firsts, answers = zip(*times, strict=True)
    total = requests * tokens
    return Measured(
        name, concurrent, total / seconds, total / cpu, statistics.median(firsts), statistics.median(answers)
    )


async def measure_all(base: Path, folders: dict[str, Path], *, requests: int, tokens: int) -> list[Measured]:
    """The server on a real socket."""
    listener = listen(0, "127.0.0.1")
    config = make_config(*(served(name) for name in folders), maxSequenceLength=2048)
    rows = []
    async with running(config, FolderSource(base, folders), wait=False) as inside:
        await inside.until_ready(600)
        for lane in inside.engine.lanes:
            if isinstance(lane, GenerationLane):
                # Every answer has the same length.
                object.__setattr__(lane.model, "end_tokens", frozenset())
        server = Server(inside.front, grace_seconds=1)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        await measure_server(url, "", ["base"], concurrent=1, requests=1, tokens=tokens)
        for name, models in (
            ("server, base", ["base"]),
            ("server, 2 adapters and base", ["tone-v1", "tone-v2", "base"]),
        ):
            sizes = {"requests": requests, "tokens": tokens}
            rows += [
                await measure_server(url, name, models, concurrent=concurrent, **sizes) for concurrent in (1, 4, 8)
            ]
        server.stop()
        with suppress(asyncio.CancelledError):
            await task
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--requests", type=int, default=16)
    arguments = parser.parse_args()
    sizes = {"requests": arguments.requests, "tokens": arguments.tokens}
    torch.set_num_threads(thread_count())
    with tempfile.TemporaryDirectory() as directory:
        folders = make_adapters(arguments.model, Path(directory), 2)
        rows = [measure_generate(arguments.model, **sizes, adapter=adapter) for adapter in (False, True)]
        rows += asyncio.run(measure_all(arguments.model, folders, **sizes))
    print("| what | concurrent | tokens/s | tokens/CPU s | first text s | answer s |\n|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row.name} | {row.concurrent} | {row.tokens_per_second:.1f} | {row.tokens_per_cpu_second:.1f} | {row.first_text_seconds:.2f} | {row.answer_seconds:.2f} |"
        )


if __name__ == "__main__":
    main()
