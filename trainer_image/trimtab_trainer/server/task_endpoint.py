"""Everything but text generation: one endpoint for each shape of requests."""

import asyncio
from contextlib import nullcontext
from typing import Any

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from trimtab_trainer.server.exchange import Exchange, in_exchange
from trimtab_trainer.server.media_shapes import ChoiceShape, DetectionShape, ImageShape, RecordingShape
from trimtab_trainer.server.openai_api import ApiError
from trimtab_trainer.server.rooms import Rooms
from trimtab_trainer.server.servable import ONLY_HEAD, Head
from trimtab_trainer.server.target import Target, TaskTarget
from trimtab_trainer.server.task_lane import TaskWork
from trimtab_trainer.server.task_shapes import ClassifyShape, Prepared, QuestionShape, Shape, TokenShape

UPLOAD_SECONDS = 60
SHAPES: tuple[Shape, ...] = (
    ClassifyShape(),
    TokenShape(),
    QuestionShape(),
    ImageShape(),
    DetectionShape(),
    ChoiceShape(),
    RecordingShape(),
)
URL_OF_KIND = {kind: shape.url for shape in SHAPES for kind in shape.kinds}


class TaskEndpoint:
    """One endpoint, as an ASGI application."""

    def __init__(self, rooms: Rooms, shape: Shape) -> None:
        self._rooms, self._shape = rooms, shape

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        exchange = Exchange(self._shape.endpoint, self._rooms.metrics, receive, send)
        await in_exchange(exchange, self._answer(Request(scope, receive), exchange))

    async def _answer(self, request: Request, exchange: Exchange) -> None:
        with self._rooms.place():
            async with self._rooms.media if self._shape.is_media else nullcontext():
                await self._answer_in_place(request, exchange)

    async def _answer_in_place(self, request: Request, exchange: Exchange) -> None:
        asked = await self._read(request)
        with self._rooms.lease(asked.model, asked.user) as target:
            exchange.version = target.name
            head = head_of(target, asked, self._shape)
            prepared = await asyncio.to_thread(self._shape.prepare, asked, head)
            exchange.prompt_tokens = prepared.tokens
            answers = await self._answers(target, head, prepared, exchange)
        if answers is None:
            exchange.client_left()
            return
        document = prepared.describe(answers)
        if isinstance(document, str):
            await exchange.send_text(document)
            return
        if isinstance(document, dict) and document.get("object") == "list":
            document = {"object": "list", "model": exchange.version, **document}
        await exchange.send_json(200, document)

    async def _read(self, request: Request) -> Any:
        """The request. Who is slow to send it must not keep others from the few places."""
        try:
            async with asyncio.timeout(UPLOAD_SECONDS):
                return await self._shape.read(request)
        except TimeoutError as error:
            raise ApiError(408, f"The body must arrive within {UPLOAD_SECONDS} seconds.") from error

    async def _answers(self, target: Target, head: Head, prepared: Prepared, exchange: Exchange) -> list[Any] | None:
        """The engine's answers; None when the client leaves first."""
        loop = asyncio.get_running_loop()
        queue = asyncio.Queue[list[Any] | Exception | None]()

        def deliver(answers: list[Any] | Exception) -> None:
            loop.call_soon_threadsafe(queue.put_nowait, answers)

        work = TaskWork(head, prepared.examples, target.adapter, deliver)
        watch = loop.create_task(exchange.wait_until_client_leaves())
        watch.add_done_callback(lambda _: queue.put_nowait(None))
        if isinstance(target, TaskTarget):
            target.lane.submit(work)
        self._rooms.engine.wake()
        try:
            answers = await queue.get()
        finally:
            work.cancelled = True
            watch.cancel()
        if isinstance(answers, Exception):
            raise answers
        return answers


def head_of(target: Target, asked: Any, shape: Shape) -> Head:
    """The head that answers a request.

    Raises:
        ApiError: 400 where the model is for something else, or does not know the task.
    """
    if not isinstance(target, TaskTarget):
        raise ApiError(400, f"'{asked.model}' is a language model; use /v1/chat/completions.", param="model")
    heads = target.servable.heads
    if ONLY_HEAD in heads:
        if asked.task is not None:
            raise ApiError(400, f"'{asked.model}' has only one task; leave `task` out.", param="task")
        head = heads[ONLY_HEAD]
    elif asked.task in heads:
        head = heads[asked.task]
    else:
        given = "nothing" if asked.task is None else f"'{asked.task}'"
        raise ApiError(400, f"`task` must be one of {', '.join(heads)}; got {given}.", param="task")
    if head.kind not in shape.kinds:
        name = asked.task or asked.model
        raise ApiError(400, f"'{name}' is for {head.kind}; use {URL_OF_KIND[head.kind]}.", param="model")
    return head


def no_text_model(name: str, target: TaskTarget) -> ApiError:
    """A request for text to a model that writes none."""
    urls = dict.fromkeys(URL_OF_KIND[head.kind] for head in target.servable.heads.values())
    return ApiError(400, f"'{name}' writes no text; use {' or '.join(urls)}.", param="model")
