"""POST /v1/classify: labels with scores for one text or several."""

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from trimtab_trainer.server.classification import Classification, ClassificationLane, Scores
from trimtab_trainer.server.exchange import Exchange, in_exchange, read_body
from trimtab_trainer.server.openai_api import ApiError, ClassifyRequest
from trimtab_trainer.server.rooms import Rooms


class ClassifyEndpoint:
    """The endpoint, as an ASGI application."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        exchange = Exchange("classify", self._rooms.metrics, receive, send)
        await in_exchange(exchange, self._answer(Request(scope, receive), exchange))

    async def _answer(self, request: Request, exchange: Exchange) -> None:
        asked = await read_body(request, ClassifyRequest)
        with self._rooms.lease(asked.model, asked.user) as target:
            exchange.version = target.name
            lane = target.lane
            if not isinstance(lane, ClassificationLane):
                raise ApiError(400, f"'{asked.model}' is a language model; use /v1/chat/completions.", param="model")
            with self._rooms.place():
                texts = await asyncio.to_thread(text_tokens, asked, target.tokenizer, lane.model.max_length)
                exchange.prompt_tokens = sum(len(text) for text in texts)
                scores = await self._scores(lane, texts, target.adapter, exchange)
        if scores is None:
            exchange.client_left()
            return
        data = [described(index, row, target.labels) for index, row in enumerate(scores)]
        usage = {"prompt_tokens": exchange.prompt_tokens, "total_tokens": exchange.prompt_tokens}
        await exchange.send_json(200, {"object": "list", "model": target.name, "data": data, "usage": usage})

    async def _scores(
        self, lane: ClassificationLane, texts: list[list[int]], adapter: str, exchange: Exchange
    ) -> Scores | None:
        """The engine's answer; None when the client leaves first."""
        loop = asyncio.get_running_loop()
        queue = asyncio.Queue[Scores | Exception | None]()

        def deliver(answer: Scores | Exception) -> None:
            loop.call_soon_threadsafe(queue.put_nowait, answer)

        work = Classification(texts, adapter, deliver)
        watch = loop.create_task(exchange.wait_until_client_leaves())
        watch.add_done_callback(lambda _: queue.put_nowait(None))
        lane.submit(work)
        self._rooms.engine.wake()
        try:
            answer = await queue.get()
        finally:
            work.cancelled = True
            watch.cancel()
        if isinstance(answer, Exception):
            raise answer
        return answer


def text_tokens(asked: ClassifyRequest, tokenizer: Any, maximum: int) -> list[list[int]]:
    """The texts as the model reads them.

    Raises:
        ApiError: 400 with the numbers for a text that is too long.
    """
    texts = [list(ids) for ids in tokenizer(asked.texts)["input_ids"]]
    for index, text in enumerate(texts):
        field = f"input.{index}" if isinstance(asked.input, list) else "input"
        if not text:
            raise ApiError(400, f"`{field}` must not be empty.", param=field)
        if len(text) > maximum:
            raise ApiError(
                400,
                f"This model takes {maximum} tokens; `{field}` has {len(text)}.",
                param=field,
                code="context_length_exceeded",
            )
    return texts


def described(index: int, scores: list[float], labels: tuple[str, ...]) -> dict[str, Any]:
    """One text's answer: the best label, and all of them with their scores, best first."""
    ranked = sorted(zip(labels, scores, strict=True), key=lambda pair: -pair[1])
    return {
        "index": index,
        "label": ranked[0][0],
        "score": ranked[0][1],
        "scores": [{"label": label, "score": score} for label, score in ranked],
    }
