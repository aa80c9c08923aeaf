"""Requests on their way to vLLM and answers on their way back: the version's name instead of vLLM's, everything counted."""

import asyncio
import json
from typing import Any

import httpx2 as httpx
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from trimtab_trainer.server.exchange import Exchange, in_exchange, leased, read_body
from trimtab_trainer.server.metrics import Metrics
from trimtab_trainer.server.openai_api import ApiError
from trimtab_trainer.server.versions import Versions
from trimtab_trainer.server.vllm.api import Vllm, error_text
from trimtab_trainer.server.vllm.loading import Target

_NOT_FOUND = 404
_BAD_GATEWAY = 502
_BAD_REQUEST = 400
_DATA = "data:"


class Asked(BaseModel):
    """A request, as far as the router must read it. vLLM reads the rest, and refuses what it does not know."""

    model_config = ConfigDict(extra="allow", frozen=True)

    model: str = Field(min_length=1, max_length=512)
    user: str | None = None
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None

    @property
    def wants_usage(self) -> bool:
        """A last chunk with the token counts."""
        return bool((self.stream_options or {}).get("include_usage"))

    def forwarded(self, model: str) -> dict[str, Any]:
        """What vLLM is asked. Streams always end with the token counts: the router counts them."""
        body = self.model_dump(exclude_unset=True) | {"model": model}
        if self.stream:
            body["stream_options"] = {**(self.stream_options or {}), "include_usage": True}
        return body


class Proxy:
    """One of vLLM's two endpoints for text, as an ASGI application."""

    def __init__(self, name: str, vllm: Vllm, versions: Versions[Target], metrics: Metrics) -> None:
        self._name, self._vllm, self._versions, self._metrics = name, vllm, versions, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        exchange = Exchange(self._name, self._metrics, receive, send)
        await in_exchange(exchange, self._answer(Request(scope, receive), exchange))

    async def _answer(self, request: Request, exchange: Exchange) -> None:
        asked = await read_body(request, Asked)
        with leased(self._versions, asked.model, asked.user) as target:
            exchange.version = target.name
            work = asyncio.create_task(self._relay(request.url.path, asked, target, exchange))
            left = asyncio.create_task(exchange.wait_until_client_leaves())
            try:
                await asyncio.wait((work, left), return_when=asyncio.FIRST_COMPLETED)
                if work.done():
                    work.result()
                else:
                    exchange.client_left()
            finally:
                left.cancel()
                work.cancel()
                # The version may go when nothing works for this request any more.
                await asyncio.gather(work, left, return_exceptions=True)

    async def _relay(self, path: str, asked: Asked, target: Target, exchange: Exchange) -> None:
        try:
            async with self._vllm.ask(path, asked.forwarded(target.model)) as response:
                if response.status_code >= _BAD_REQUEST:
                    raise _refusal(response.status_code, error_text((await response.aread()).decode()), target)
                if asked.stream:
                    await self._stream(response, exchange, wants_usage=asked.wants_usage)
                else:
                    await self._whole(response, exchange)
        except httpx.HTTPError as error:
            message = f"vLLM does not answer: {type(error).__name__} {error}".strip()
            raise ApiError(_BAD_GATEWAY, message, code="upstream_failed") from error

    async def _whole(self, response: httpx.Response, exchange: Exchange) -> None:
        try:
            document = json.loads(await response.aread())
        except ValueError as error:
            raise ApiError(_BAD_GATEWAY, "vLLM's answer is not JSON.", code="upstream_failed") from error
        self._count(exchange, document.get("usage"), _finish_reason(document))
        await exchange.send_json(response.status_code, {**document, "model": exchange.version})

    async def _stream(self, response: httpx.Response, exchange: Exchange, *, wants_usage: bool) -> None:
        await exchange.begin_stream()
        reason, has_text = "", False
        async for line in response.aiter_lines():
            data = line.removeprefix(_DATA).strip() if line.startswith(_DATA) else ""
            if data == "[DONE]":
                return await exchange.end_stream()
            if not data:
                continue
            document = json.loads(data)
            if "error" in document or document.get("object") == "error":
                raise ApiError(_BAD_GATEWAY, error_text(data), code="upstream_failed")
            reason = _finish_reason(document) or reason
            if not has_text and _has_text(document):
                has_text = True
                self._metrics.first_token_seconds.labels(exchange.version).observe(exchange.elapsed)
            if document.get("usage"):
                self._count(exchange, document["usage"], reason)
            if document.get("choices") or wants_usage:
                await exchange.send_event({**document, "model": exchange.version})
        raise ApiError(_BAD_GATEWAY, "vLLM broke the answer off.", code="upstream_failed")

    def _count(self, exchange: Exchange, usage: Any, reason: str) -> None:
        if not isinstance(usage, dict):
            return
        exchange.prompt_tokens = int(usage.get("prompt_tokens") or 0)
        exchange.completion_tokens = int(usage.get("completion_tokens") or 0)
        if reason:
            self._metrics.answer_tokens.labels(exchange.version, reason).observe(exchange.completion_tokens)


def _refusal(status: int, message: str, target: Target) -> ApiError:
    if status == _NOT_FOUND and target.model in message:
        # vLLM has started anew and has not got its adapters back yet.
        return ApiError(503, f"{target.name} is being loaded again.", code="model_not_ready", retry_after=5)
    return ApiError(status, message)


def _finish_reason(document: Any) -> str:
    reasons = (choice.get("finish_reason") for choice in document.get("choices") or ())
    return next((str(reason) for reason in reasons if reason), "")


def _has_text(document: Any) -> bool:
    return any(choice.get("text") or (choice.get("delta") or {}).get("content") for choice in document["choices"])
