"""One request from its arrival to the end of its answer: who answered, what is counted and logged."""

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Send

from trimtab_trainer import logs
from trimtab_trainer.server.metrics import Metrics
from trimtab_trainer.server.openai_api import ApiError, explain
from trimtab_trainer.server.versions import NotReadyError, Target, UnknownModelError, Versions

CLIENT_LEFT = 499
"""nginx's number for a client that did not wait for the answer."""
_SERVER_FAULT = 500
MAX_BODY_BYTES = 8 << 20
_VERSION_HEADER = b"x-trimtab-version"

Body = TypeVar("Body", bound=BaseModel)


@contextmanager
def leased(versions: Versions[Target], model: str, user: str | None) -> Iterator[Target]:
    """The target of a request, as long as the block runs.

    Raises:
        ApiError: 404 for an unknown name, 503 for one that cannot answer yet.
    """
    try:
        with versions.lease(model, user) as target:
            yield target
    except UnknownModelError as error:
        known = ", ".join(versions.names())
        raise ApiError(
            404,
            f"The model '{model}' does not exist here; there are: {known}.",
            param="model",
            code="model_not_found",
        ) from error
    except NotReadyError as error:
        raise ApiError(503, str(error), param="model", code="model_not_ready", retry_after=5) from error


class Exchange:
    """The answer to one request."""

    def __init__(self, endpoint: str, metrics: Metrics, receive: Receive, send: Send) -> None:
        self.endpoint = endpoint
        self.version = ""
        self.prompt_tokens = self.completion_tokens = 0
        self._metrics, self._receive, self._send = metrics, receive, send
        self._started = time.monotonic()
        self._status = 0
        self._failed = False

    @property
    def elapsed(self) -> float:
        """Seconds since the request arrived."""
        return time.monotonic() - self._started

    async def wait_until_client_leaves(self) -> None:
        """Return when nobody waits for the answer any more."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def client_left(self) -> None:
        """There is nobody to answer."""
        self._status = CLIENT_LEFT

    async def send_json(self, status: int, document: Any, headers: dict[str, str] | None = None) -> None:
        """The whole answer."""
        body = json.dumps(document, ensure_ascii=False).encode()
        await self._begin(status, "application/json", {"content-length": str(len(body)), **(headers or {})})
        await self._send({"type": "http.response.body", "body": body})

    async def send_text(self, text: str) -> None:
        """The whole answer, as it is read."""
        body = text.encode()
        await self._begin(200, "text/plain; charset=utf-8", {"content-length": str(len(body))})
        await self._send({"type": "http.response.body", "body": body})

    async def send_error(self, error: ApiError) -> None:
        """An error in place of the answer, or as the last event of one that has begun."""
        self._failed = error.status >= _SERVER_FAULT and error.code != "model_not_ready"
        if self._status:
            await self.send_event(error.body())
            await self.end_stream()
        else:
            retry = {} if error.retry_after is None else {"retry-after": str(error.retry_after)}
            await self.send_json(error.status, error.body(), retry)

    async def begin_stream(self) -> None:
        """The head of an answer in server-sent events."""
        await self._begin(200, "text/event-stream; charset=utf-8", {"cache-control": "no-cache"})

    async def send_event(self, document: Any) -> None:
        """One event."""
        await self._send_piece(b"data: " + json.dumps(document, ensure_ascii=False).encode() + b"\n\n")

    async def end_stream(self) -> None:
        """OpenAI's last event."""
        await self._send_piece(b"data: [DONE]\n\n", more=False)

    def close(self) -> None:
        """Count and log. Never what was asked or answered."""
        status = self._status or CLIENT_LEFT
        self._metrics.requests.labels(self.version, self.endpoint, status).inc()
        self._metrics.seconds.labels(self.version, self.endpoint).observe(self.elapsed)
        self._metrics.prompt_tokens.labels(self.version).inc(self.prompt_tokens)
        self._metrics.completion_tokens.labels(self.version).inc(self.completion_tokens)
        # Also without one: Prometheus' rate() does not count what a series begins with.
        self._metrics.errors.labels(self.version, self.endpoint).inc(self._failed)
        logs.fact(
            "request_ended",
            endpoint=self.endpoint,
            version=self.version or None,
            status=status,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            seconds=self.elapsed,
        )

    async def _begin(self, status: int, media_type: str, headers: dict[str, str]) -> None:
        self._status = status
        pairs = [
            (b"content-type", media_type.encode()),
            *((name.encode(), value.encode()) for name, value in headers.items()),
        ]
        if self.version:
            pairs.append((_VERSION_HEADER, self.version.encode()))
        await self._send({"type": "http.response.start", "status": status, "headers": pairs})

    async def _send_piece(self, piece: bytes, *, more: bool = True) -> None:
        await self._send({"type": "http.response.body", "body": piece, "more_body": more})


async def read_bytes(request: Request, limit: int) -> bytes:
    """The request's body as it came.

    Raises:
        ApiError: 413 for too large a body.
    """
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > limit:
            raise ApiError(413, f"The body must not be larger than {limit} bytes.")
    return bytes(data)


async def read_body(request: Request, model: type[Body], limit: int = MAX_BODY_BYTES) -> Body:
    """The request's body, checked.

    Raises:
        ApiError: 400 naming the field, 413 for too large a body.
    """
    data = await read_bytes(request, limit)
    try:
        body = json.loads(data)
    except ValueError as error:
        raise ApiError(400, f"The body must be JSON: {error}.") from error
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise explain(error) from error


async def in_exchange(exchange: Exchange, answer: Any) -> None:
    """Run an endpoint: whatever happens, the client gets an answer and the request is counted."""
    try:
        try:
            await answer
        except ApiError as error:
            await exchange.send_error(error)
        except ClientDisconnect:
            exchange.client_left()
        except Exception as error:  # noqa: BLE001 - the client gets a 500, and the log the cause
            logs.warning("request_failed", endpoint=exchange.endpoint, error=type(error).__name__, message=error)
            await exchange.send_error(ApiError(_SERVER_FAULT, "The server failed to answer; its log says why."))
    except (OSError, asyncio.CancelledError):
        exchange.client_left()
        raise
    finally:
        exchange.close()
