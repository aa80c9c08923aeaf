"""POST /v1/chat/completions and /v1/completions, whole and streamed."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import jinja2
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from trimtab_trainer.server.exchange import Exchange, in_exchange, read_body
from trimtab_trainer.server.generation import Delta, Event, Failed, Finished, Generation
from trimtab_trainer.server.openai_api import ApiError, ChatRequest, CompletionRequest
from trimtab_trainer.server.rooms import Rooms
from trimtab_trainer.server.sampling import Sampling
from trimtab_trainer.server.target import TextTarget
from trimtab_trainer.server.task_endpoint import no_text_model

TextRequest = ChatRequest | CompletionRequest


class _Left:
    """The client did not wait for the answer."""


@dataclass(frozen=True)
class _Shape:
    """How one of the two endpoints writes its answers."""

    id_prefix: str
    whole: str
    chunk: str

    def choice(self, text: str, reason: str | None) -> dict[str, Any]:
        """The one choice of a whole answer."""
        fixed = {"index": 0, "logprobs": None, "finish_reason": reason}
        if self is _CHAT:
            return {**fixed, "message": {"role": "assistant", "content": text, "refusal": None}}
        return {**fixed, "text": text}

    def piece(self, delta: dict[str, str], reason: str | None) -> dict[str, Any]:
        """The one choice of a chunk."""
        fixed = {"index": 0, "logprobs": None, "finish_reason": reason}
        if self is _CHAT:
            return {**fixed, "delta": delta}
        return {**fixed, "text": delta.get("content", "")}


_CHAT = _Shape("chatcmpl-", "chat.completion", "chat.completion.chunk")
_COMPLETION = _Shape("cmpl-", "text_completion", "text_completion")


class TextEndpoint:
    """One of the two endpoints, as an ASGI application."""

    def __init__(self, rooms: Rooms, asked: type[ChatRequest] | type[CompletionRequest]) -> None:
        self._rooms, self._asked = rooms, asked
        self._shape = _CHAT if asked is ChatRequest else _COMPLETION
        self._name = "chat" if asked is ChatRequest else "completions"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        exchange = Exchange(self._name, self._rooms.metrics, receive, send)
        await in_exchange(exchange, self._answer(Request(scope, receive), exchange))

    async def _answer(self, request: Request, exchange: Exchange) -> None:
        asked = await read_body(request, self._asked)
        with self._rooms.lease(asked.model, asked.user) as target:
            exchange.version = target.name
            if not isinstance(target, TextTarget):
                raise no_text_model(asked.model, target)
            with self._rooms.place():
                prompt = await asyncio.to_thread(prompt_tokens, asked, target.tokenizer)
                exchange.prompt_tokens = len(prompt)
                async with self._events(asked, target, prompt, exchange) as events:
                    await (self._stream(asked, exchange, events) if asked.stream else self._collect(exchange, events))

    @asynccontextmanager
    async def _events(
        self, asked: TextRequest, target: TextTarget, prompt: list[int], exchange: Exchange
    ) -> AsyncIterator["asyncio.Queue[Event | _Left]"]:
        """What the engine says about a request, and that the client left; at the end nobody works for it any more."""
        loop, queue = asyncio.get_running_loop(), asyncio.Queue[Event | _Left]()
        limit = answer_limit(asked, len(prompt), target.max_length)

        def deliver(event: Event) -> None:
            loop.call_soon_threadsafe(queue.put_nowait, event)

        generation = Generation(
            prompt,
            target.adapter,
            limit,
            deliver,
            target.tokenizer,
            Sampling(asked.temperature, asked.top_p, asked.seed),
            asked.stop_sequences,
            target.prefix,
        )
        watch = loop.create_task(exchange.wait_until_client_leaves())
        watch.add_done_callback(lambda _: queue.put_nowait(_Left()))
        target.lane.submit(generation)
        self._rooms.engine.wake()
        try:
            yield queue
        finally:
            generation.cancelled = True
            self._rooms.engine.wake()
            watch.cancel()

    async def _collect(self, exchange: Exchange, events: "asyncio.Queue[Event | _Left]") -> None:
        text = ""
        while True:
            match await events.get():
                case Delta(piece):
                    self._count_first(exchange, text)
                    text += piece
                case Finished() as end:
                    self._count_end(exchange, end)
                    choices = [self._shape.choice(text, end.reason)]
                    document = {**self._head(exchange, self._shape.whole), "choices": choices, "usage": usage(exchange)}
                    return await exchange.send_json(200, document)
                case Failed(error):
                    raise error
                case _Left():
                    return exchange.client_left()

    async def _stream(self, asked: TextRequest, exchange: Exchange, events: "asyncio.Queue[Event | _Left]") -> None:
        head = self._head(exchange, self._shape.chunk)
        if asked.wants_usage:
            head["usage"] = None
        await exchange.begin_stream()
        sent = ""
        if self._shape is _CHAT:
            await exchange.send_event(
                {**head, "choices": [self._shape.piece({"role": "assistant", "content": ""}, None)]}
            )
        while True:
            match await events.get():
                case Delta(piece):
                    self._count_first(exchange, sent)
                    sent = piece
                    await exchange.send_event({**head, "choices": [self._shape.piece({"content": piece}, None)]})
                case Finished() as end:
                    self._count_end(exchange, end)
                    await exchange.send_event({**head, "choices": [self._shape.piece({}, end.reason)]})
                    if asked.wants_usage:
                        await exchange.send_event({**head, "choices": [], "usage": usage(exchange)})
                    return await exchange.end_stream()
                case Failed(error):
                    raise error
                case _Left():
                    return exchange.client_left()

    def _head(self, exchange: Exchange, kind: str) -> dict[str, Any]:
        return {
            "id": self._shape.id_prefix + uuid.uuid4().hex,
            "object": kind,
            "created": int(time.time()),
            "model": exchange.version,
        }

    def _count_first(self, exchange: Exchange, before: str) -> None:
        if not before:
            self._rooms.metrics.first_token_seconds.labels(exchange.version).observe(exchange.elapsed)

    def _count_end(self, exchange: Exchange, end: Finished) -> None:
        exchange.completion_tokens = end.completion_tokens
        self._rooms.metrics.answer_tokens.labels(exchange.version, end.reason).observe(end.completion_tokens)


def usage(exchange: Exchange) -> dict[str, int]:
    """OpenAI's token counts."""
    prompt, completion = exchange.prompt_tokens, exchange.completion_tokens
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def prompt_tokens(asked: TextRequest, tokenizer: Any) -> list[int]:
    """The prompt as the model reads it.

    Raises:
        ApiError: 400 where there is no chat template, or it refuses the messages, or tokens are out of range.
    """
    if isinstance(asked, ChatRequest):
        if not tokenizer.chat_template:
            raise ApiError(400, "This model has no chat template; use /v1/completions.", param="messages")
        messages = [message.for_template() for message in asked.messages]
        try:
            text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        except jinja2.TemplateError as error:
            raise ApiError(
                400, f"The model's chat template refuses the `messages`: {error}.", param="messages"
            ) from error
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])
    prompt = asked.one_prompt
    if isinstance(prompt, str):
        return list(tokenizer(prompt)["input_ids"])
    if not all(0 <= token < len(tokenizer) for token in prompt):
        raise ApiError(400, f"`prompt` has tokens outside 0 to {len(tokenizer) - 1}.", param="prompt")
    return prompt


def answer_limit(asked: TextRequest, prompt: int, maximum: int) -> int:
    """Tokens that the answer may have.

    Raises:
        ApiError: 400 with the numbers where prompt and answer do not fit.
    """
    field = "messages" if isinstance(asked, ChatRequest) else "prompt"
    if prompt == 0:
        raise ApiError(400, f"`{field}` must not be empty.", param=field)
    wanted = 1 if isinstance(asked, ChatRequest) and asked.limit is None else asked.limit or 1
    if prompt + wanted > maximum:
        raise ApiError(
            400,
            f"This model takes {maximum} tokens of prompt and answer together; `{field}` has {prompt} and the answer may have {wanted}.",
            param=field,
            code="context_length_exceeded",
        )
    return asked.limit or maximum - prompt
