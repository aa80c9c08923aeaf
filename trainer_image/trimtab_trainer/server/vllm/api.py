"""vLLM's HTTP API, as far as the router uses it: health, models, adapters, and the two endpoints for text."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

import httpx2 as httpx

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.errors import TrainerError

_LOAD_SECONDS = 300.0
"""Until an adapter is on the GPU: vLLM does it between two steps, and a busy server takes its time."""
_ASK_SECONDS = 5.0
_ANSWER = httpx.Timeout(connect=5.0, read=None, write=60.0, pool=None)
"""An answer takes as long as it takes; who gives up is the client."""
_SHOWN = 600
_NOT_FOUND = 404
_SERVER_FAULT = 500


class AwayError(Exception):
    """vLLM does not answer: it starts, or has ended."""


class Vllm:
    """One vLLM process in this pod."""

    def __init__(self, url: str) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
        self._client = httpx.AsyncClient(base_url=url, limits=limits, timeout=_ASK_SECONDS, trust_env=False)
        self.ready = False
        """It answered when it was asked last."""
        self.running = 0
        """Requests that it works on."""
        self.waiting = 0
        """vLLM's own metrics tell; the router holds no request back."""
        self.alive = True
        """Restarting the router does not mend vLLM: the kubelet watches that container itself."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def models(self) -> frozenset[str]:
        """Names of everything in memory, the base model's among them.

        Raises:
            AwayError: it does not answer.
        """
        try:
            response = await self._client.get("/v1/models")
            response.raise_for_status()
            names = frozenset(str(model["id"]) for model in response.json()["data"])
        except (httpx.HTTPError, OSError, ValueError, KeyError, TypeError) as error:
            self.ready = False
            raise AwayError(f"vLLM does not answer: {type(error).__name__} {error}".strip()) from error
        self.ready = True
        return names

    async def load(self, name: str, path: str) -> None:
        """Load an adapter under a name that says its bytes: one that is there already is the same.

        Raises:
            TrainerError: ModelInvalid where vLLM refuses it, TrainerError where vLLM fails.
        """
        body = {"lora_name": name, "lora_path": path}
        status, text = await self._adapter("load", body)
        if status < httpx.codes.BAD_REQUEST or "already been loaded" in text:
            return
        refused = status < _SERVER_FAULT
        raise TrainerError(
            TrainerReason.MODEL_INVALID if refused else TrainerReason.TRAINER_ERROR,
            f"vLLM {'refuses' if refused else 'fails to load'} the adapter: {text}",
        )

    async def unload(self, name: str) -> None:
        """Forget an adapter; one that is not there is forgotten.

        Raises:
            TrainerError: vLLM fails.
        """
        status, text = await self._adapter("unload", {"lora_name": name})
        if status >= httpx.codes.BAD_REQUEST and status != _NOT_FOUND and "cannot be found" not in text:
            raise TrainerError(TrainerReason.TRAINER_ERROR, f"vLLM does not unload {name}: {text}")

    @asynccontextmanager
    async def ask(self, path: str, body: Mapping[str, Any]) -> AsyncIterator[httpx.Response]:
        """One request for text; leaving the block ends it, and vLLM works for it no more.

        Raises:
            httpx2.HTTPError: vLLM does not answer.
        """
        self.running += 1
        try:
            async with self._client.stream("POST", path, json=dict(body), timeout=_ANSWER) as response:
                yield response
        finally:
            self.running -= 1

    async def _adapter(self, verb: str, body: Mapping[str, str]) -> tuple[int, str]:
        try:
            response = await self._client.post(f"/v1/{verb}_lora_adapter", json=dict(body), timeout=_LOAD_SECONDS)
        except (httpx.HTTPError, OSError) as error:
            message = f"vLLM does not answer while it should {verb} an adapter: {type(error).__name__} {error}"
            raise TrainerError(TrainerReason.TRAINER_ERROR, message.strip()) from error
        return response.status_code, error_text(response.text)


def error_text(text: str) -> str:
    """What an error says: OpenAI's form, vLLM's older one, or whatever came."""
    try:
        document = httpx.Response(200, text=text).json()
    except ValueError:
        return text[:_SHOWN]
    if isinstance(document, dict):
        inner = document.get("error", document)
        if isinstance(inner, dict) and inner.get("message"):
            return str(inner["message"])[:_SHOWN]
    return text[:_SHOWN]
