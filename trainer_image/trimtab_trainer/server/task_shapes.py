"""How tasks on texts read their requests and write their answers. What the answers are, the tasks themselves say."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from starlette.requests import Request

from trimtab_trainer.data.label_encoding import LabelEncoder
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.server.exchange import MAX_BODY_BYTES, read_body
from trimtab_trainer.server.openai_api import ApiError
from trimtab_trainer.server.servable import REWARD_MODEL, Head
from trimtab_trainer.server.task_requests import ClassifyRequest, ModelRequest, QuestionRequest, TokenRequest
from trimtab_trainer.tasks.entities import OUTSIDE, entities
from trimtab_trainer.tasks.question_answering import Answer
from trimtab_trainer.tasks.token_classification import Span, TaggedInput, join_words, split_words

MAX_WINDOWS = 64
"""Of one question: each costs a forward pass."""


@dataclass(frozen=True)
class Prepared:
    """A request in the words of a model."""

    examples: Sequence[Any]
    describe: Callable[[list[Any]], Any]
    """The answers to the examples as the document that the client gets, or as text."""
    tokens: int = 0
    """Read, for the metrics."""


class Shape(ABC):
    """One endpoint."""

    url: ClassVar[str]
    endpoint: ClassVar[str]
    """In metrics."""
    kinds: ClassVar[tuple[str, ...]]
    """Of the heads that answer."""
    body: ClassVar[type[ModelRequest]]
    max_body_bytes: ClassVar[int] = MAX_BODY_BYTES
    is_media: ClassVar[bool] = False
    """Bodies have images or recordings."""

    async def read(self, request: Request) -> Any:
        """The request, checked as far as that needs no model.

        Raises:
            ApiError: 400 naming the field, 413 for too large a body.
        """
        return await read_body(request, self.body, self.max_body_bytes)

    @abstractmethod
    def prepare(self, asked: Any, head: Head) -> Prepared:
        """What goes through the model. Called in a thread of its own.

        Raises:
            ApiError: 400 naming the field.
        """


class ClassifyShape(Shape):
    """Labels with scores for one text or several; the reward of a conversation."""

    url, endpoint, body = "/v1/classify", "classify", ClassifyRequest
    kinds = ("sequenceClassification", REWARD_MODEL)

    def prepare(self, asked: ClassifyRequest, head: Head) -> Prepared:
        """Texts cut nowhere."""
        examples = self._conversation(asked, head) if asked.messages is not None else self._texts(asked, head)
        tokens = sum(example.length for example in examples)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}

        def describe(answers: list[list[float]]) -> dict[str, Any]:
            data = [described(index, scores, head.labels) for index, scores in enumerate(answers)]
            return {"object": "list", "data": data, "usage": usage}

        return Prepared(examples, describe, tokens)

    def _texts(self, asked: ClassifyRequest, head: Head) -> list[Any]:
        if asked.input is None:
            raise ApiError(400, "`input` is required: a text, or a list of texts.", param="input")
        for index, text in enumerate(asked.texts):
            check_text(text, f"input.{index}" if isinstance(asked.input, list) else "input", head)
        # A reward model's own encoder renders conversations; texts are rendered already.
        is_reward = head.kind == REWARD_MODEL
        encoder = LabelEncoder(head.processor, head.max_length, head.labels) if is_reward else head.encoder
        return list(encoder.encode_texts(asked.texts))

    def _conversation(self, asked: ClassifyRequest, head: Head) -> list[Any]:
        messages = [message.for_template() for message in asked.messages or ()]
        if head.kind != REWARD_MODEL:
            raise ApiError(400, "`messages` are for reward models; give this one `input`.", param="messages")
        if asked.input is not None:
            raise ApiError(400, "`input` and `messages` exclude each other; leave one of them out.", param="input")
        if messages[-1]["role"] != "assistant":
            raise ApiError(
                400,
                f"`messages` must end with the assistant's answer, which is scored; the last role is {messages[-1]['role']}.",
                param="messages",
            )
        example = in_words_of(
            "messages",
            lambda: head.encoder.encode_conversation(tuple((one["role"], one["content"]) for one in messages)),
        )
        if example.cut:
            raise too_long("messages", head, "more")
        return [example]


class TokenShape(Shape):
    """Entities with their places in the text."""

    url, endpoint, body = "/v1/token-classification", "token-classification", TokenRequest
    kinds = ("tokenClassification",)

    def prepare(self, asked: TokenRequest, head: Head) -> Prepared:
        """Words as rows of data have them, or found in running texts."""
        texts, one = _words(asked)
        examples: list[TaggedInput] = []
        for index, (text, spans) in enumerate(texts):
            field = "inputs" if one else f"inputs.{index}"
            check_text(text, field, head)
            examples.append(head.encoder.encode_words(text, spans))
        whole = asked.parameters.aggregation_strategy == "first"

        def describe(answers: list[list[tuple[str, float]]]) -> Any:
            found = [
                (_entities if whole else _tags)(text, [spans[word] for word in example.words], answer)
                for (text, spans), example, answer in zip(texts, examples, answers, strict=True)
            ]
            return found[0] if one else found

        return Prepared(examples, describe, sum(example.length for example in examples))


class QuestionShape(Shape):
    """The span of a context that answers a question."""

    url, endpoint, body = "/v1/question-answering", "question-answering", QuestionRequest
    kinds = ("questionAnswering",)

    def prepare(self, asked: QuestionRequest, head: Head) -> Prepared:
        """Contexts in windows, as the model was trained with."""
        several = asked.inputs if isinstance(asked.inputs, list) else [asked.inputs]
        examples = []
        for index, one in enumerate(several):
            field = f"inputs.{index}" if isinstance(asked.inputs, list) else "inputs"
            example = in_words_of(field, partial(head.encoder.encode_question, one.question, one.context))
            if len(example.windows) > MAX_WINDOWS:
                raise ApiError(
                    400,
                    f"`{field}.context` takes {len(example.windows)} windows of {head.max_length} tokens; send at most {MAX_WINDOWS}.",
                    param=f"{field}.context",
                    code="context_length_exceeded",
                )
            examples.append(example)

        def describe(answers: list[Answer]) -> Any:
            found = [{"answer": one.text, "score": one.score, "start": one.start, "end": one.end} for one in answers]
            return found if isinstance(asked.inputs, list) else found[0]

        return Prepared(examples, describe, sum(len(window.ids) for one in examples for window in one.windows))


def described(index: int, scores: Sequence[float], labels: Sequence[str]) -> dict[str, Any]:
    """One text's answer: the best label, and all of them with their scores, best first."""
    found = ranked(scores, labels)
    return {"index": index, **found[0], "scores": found}


def ranked(scores: Sequence[float], labels: Sequence[str]) -> list[dict[str, Any]]:
    """Labels with their scores, best first."""
    order = sorted(zip(labels, scores, strict=True), key=lambda pair: -pair[1])
    return [{"label": label, "score": score} for label, score in order]


def check_text(text: str, field: str, head: Head) -> None:
    """A text that the model can read as a whole.

    Raises:
        ApiError: 400 with the numbers.
    """
    if not text.strip():
        raise ApiError(400, f"`{field}` must not be empty.", param=field)
    length = len(head.processor(text).input_ids)
    if length > head.max_length:
        raise too_long(field, head, str(length))


def too_long(field: str, head: Head, given: str) -> ApiError:
    """A text that the model would not see the end of."""
    return ApiError(
        400,
        f"This model takes {head.max_length} tokens; `{field}` has {given}.",
        param=field,
        code="context_length_exceeded",
    )


def in_words_of(field: str, encode: Callable[[], Any]) -> Any:
    """What an encoder refuses, as the client's mistake.

    Raises:
        ApiError: 400 naming the field.
    """
    try:
        return encode()
    except TrainerError as error:
        raise ApiError(400, f"`{field}`: {str(error).removeprefix('request: ')}", param=field) from error


def _words(asked: TokenRequest) -> tuple[list[tuple[str, Sequence[Span]]], bool]:
    """Texts with the places of their words, and whether there is only one because one was asked for."""
    inputs = asked.inputs
    if not asked.parameters.is_split_into_words:
        texts = [inputs] if isinstance(inputs, str) else [text for text in inputs if isinstance(text, str)]
        if len(texts) != (1 if isinstance(inputs, str) else len(inputs)):
            raise ApiError(
                400,
                "`inputs` must be a text or a list of texts; set `parameters.is_split_into_words` for words.",
                param="inputs",
            )
        return [(text, split_words(text)) for text in texts], isinstance(inputs, str)
    if isinstance(inputs, str):
        raise ApiError(400, "`inputs` must be a list of words with `parameters.is_split_into_words`.", param="inputs")
    one = isinstance(inputs[0], str)
    several = [list(map(str, inputs))] if one else [list(map(str, words)) for words in inputs]
    return [join_words(words) for words in several], one


def _entities(text: str, spans: Sequence[Span], answer: Sequence[tuple[str, float]]) -> list[dict[str, Any]]:
    """Whole entities, as metrics count them; an entity's score is the mean of its words'."""
    found = []
    for kind, first, last in sorted(entities([tag for tag, _ in answer]), key=lambda entity: entity[1:]):
        start, end = spans[first][0], spans[last][1]
        score = sum(share for _, share in answer[first : last + 1]) / (last + 1 - first)
        found.append({"entity_group": kind, "score": score, "word": text[start:end], "start": start, "end": end})
    return found


def _tags(text: str, spans: Sequence[Span], answer: Sequence[tuple[str, float]]) -> list[dict[str, Any]]:
    """Every word that has a tag."""
    return [
        {"entity": tag, "score": share, "index": index + 1, "word": text[start:end], "start": start, "end": end}
        for index, ((start, end), (tag, share)) in enumerate(zip(spans, answer, strict=True))
        if tag != OUTSIDE
    ]
