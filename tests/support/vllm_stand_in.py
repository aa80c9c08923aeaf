"""A stand-in that speaks vLLM's API: OpenAI's endpoints and the adapter API, with vLLM's words. As a program it takes `vllm serve`'s arguments."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

WORDS = ("one", " two", " three")


class StandIn:
    """What vLLM would have in memory, and how it answers. Adapters are read from the disk as vLLM reads them."""

    def __init__(self, *, max_rank: int = 16) -> None:
        self.max_rank = max_rank
        self.adapters: dict[str, str] = {}
        self.down = False
        self.breaks_streams = False
        self.fault = ""
        """Message of an internal error; empty: none."""
        self.gate = asyncio.Event()
        """Answers wait for it."""
        self.gate.set()
        self.open: list[str] = []
        """Models of the requests that are being answered."""
        self.asked: list[dict[str, Any]] = []
        self.app = Starlette(
            routes=[
                Route("/health", self._health),
                Route("/v1/models", self._models),
                Route("/v1/load_lora_adapter", self._load, methods=["POST"]),
                Route("/v1/unload_lora_adapter", self._unload, methods=["POST"]),
                Route("/v1/chat/completions", self._text, methods=["POST"]),
                Route("/v1/completions", self._text, methods=["POST"]),
            ]
        )

    async def _health(self, _request: Request) -> Response:
        return Response()

    async def _models(self, _request: Request) -> Response:
        if self.down:
            return PlainTextResponse("", status_code=503)
        return JSONResponse({"object": "list", "data": [{"id": name} for name in ("base", *self.adapters)]})

    async def _load(self, request: Request) -> Response:
        body = await request.json()
        name, path = body["lora_name"], Path(body["lora_path"])
        if name in self.adapters:
            return _error(400, f"The lora adapter '{name}' has already been loaded.", "InvalidUserInput")
        if not (path / "adapter_config.json").is_file():
            return _error(404, f"Loading lora {name} failed: No adapter found for {path}", "NotFoundError")
        rank = json.loads((path / "adapter_config.json").read_bytes())["r"]
        if rank > self.max_rank:
            return _error(400, f"LoRA rank {rank} is greater than max_lora_rank {self.max_rank}.", "BadRequestError")
        self.adapters[name] = str(path)
        return PlainTextResponse(f"Success: LoRA adapter '{name}' added successfully.")

    async def _unload(self, request: Request) -> Response:
        name = (await request.json())["lora_name"]
        if self.adapters.pop(name, None) is None:
            return _error(404, f"The lora adapter '{name}' cannot be found.", "NotFoundError")
        return PlainTextResponse(f"Success: LoRA adapter '{name}' removed successfully.")

    async def _text(self, request: Request) -> Response:
        body = await request.json()
        model = body["model"]
        self.asked.append(body)
        if model != "base" and model not in self.adapters:
            return _error(404, f"The model `{model}` does not exist.", "NotFoundError")
        if self.fault:
            return _error(500, self.fault, "InternalServerError")
        if body.get("temperature", 1) < 0:
            return _error(400, "temperature must be non-negative, got -1.0.", "BadRequestError")
        if body.get("stream"):
            return StreamingResponse(self._stream(body), media_type="text/event-stream")
        with self._working(model):
            await self.gate.wait()
            self._check(model)
        choice = {"index": 0, "message": {"role": "assistant", "content": "".join(WORDS)}, "finish_reason": "stop"}
        return JSONResponse(
            {"id": "chatcmpl-1", "object": "chat.completion", "model": model, "choices": [choice], "usage": _USAGE}
        )

    async def _stream(self, body: dict[str, Any]) -> AsyncIterator[str]:
        model, head = body["model"], {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": body["model"]}
        with self._working(model):
            for index, word in enumerate(WORDS):
                if index:
                    await self.gate.wait()
                    if self.breaks_streams:
                        return
                self._check(model)
                yield _event({**head, "choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]})
        yield _event({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]})
        if (body.get("stream_options") or {}).get("include_usage"):
            yield _event({**head, "choices": [], "usage": _USAGE})
        yield "data: [DONE]\n\n"

    @contextmanager
    def _working(self, model: str) -> Iterator[None]:
        self.open.append(model)
        try:
            yield
        finally:
            self.open.remove(model)

    def _check(self, model: str) -> None:
        """An adapter that goes away under a request is what draining must prevent."""
        if model != "base" and model not in self.adapters:
            raise RuntimeError(f"{model} was unloaded under a request")


_USAGE = {"prompt_tokens": 5, "completion_tokens": len(WORDS), "total_tokens": 5 + len(WORDS)}


def _event(document: dict[str, Any]) -> str:
    return f"data: {json.dumps(document)}\n\n"


def _error(status: int, message: str, kind: str) -> Response:
    return JSONResponse(
        {"error": {"message": message, "type": kind, "param": None, "code": status}}, status_code=status
    )


def main(arguments: list[str]) -> None:
    """`vllm serve MODEL --name=value ...`: it reads the model's config.json at the start, as vLLM does."""
    command, model, *rest = arguments
    options = dict(each.removeprefix("--").partition("=")[::2] for each in rest)
    assert command == "serve"
    assert "model_type" in json.loads((Path(model) / "config.json").read_bytes())
    assert options["served-model-name"] == "base"
    assert "enable-lora" in options
    stand_in = StandIn(max_rank=int(options["max-lora-rank"]))
    uvicorn.run(stand_in.app, host=options["host"], port=int(options["port"]), log_level="warning")


if __name__ == "__main__":
    main(sys.argv[1:])
