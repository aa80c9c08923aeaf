"""Examples to tokens and loss masks. Text is tokenised piece by piece at the borders where loss begins and ends.

That is how inference sees it: a server tokenises the rendered prompt alone, so training must not merge the prompt's
last characters and the answer's first ones into one token.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from jinja2 import TemplateError

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.data.encoded import Encoded
from trimtab_trainer.data.formats import Chat, Completion, Example, Text
from trimtab_trainer.data.values import Turns
from trimtab_trainer.errors import TrainerError

EXAMPLES_PER_TOKENIZER_CALL = 1024


@dataclass(frozen=True)
class Segment:
    """A piece of an example's text with one loss mask."""

    text: str
    supervised: bool


@dataclass
class TextEncoder:
    """Conversations, completions and raw text for causal language modelling."""

    tokenizer: Any
    max_length: int
    loss_on_prompt: bool = False
    stop_ids: frozenset[int] = frozenset()
    """Tokens at which generation stops: the model's EOS ids."""
    only_last_answer: bool = False
    """Of a conversation only the last answer carries loss."""
    _bos: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self._bos = beginning_of(self.tokenizer)
        self.stop_ids = self.stop_ids or frozenset({self.tokenizer.eos_token_id})

    def encode(self, examples: Iterable[Example]) -> list[Encoded]:
        """All examples in their order.

        Raises:
            TrainerError: DatasetInvalid where the chat template refuses a conversation, ModelInvalid where there is none.
        """
        encoded: list[Encoded] = []
        for chunk in in_chunks(examples, EXAMPLES_PER_TOKENIZER_CALL):
            segments = [self.segments(example) for example in chunk]
            texts = [segment.text for pieces in segments for segment in pieces]
            ids = iter(self.tokenizer(texts, add_special_tokens=False).input_ids)
            encoded += [
                self._join(pieces, [next(ids) for _ in pieces], templated=self._is_templated(example))
                for example, pieces in zip(chunk, segments, strict=True)
            ]
        return encoded

    def prompt_ids(self, example: Example) -> list[int]:
        """The tokens a server would start generating from: everything before the last answer."""
        segments = self.segments(example)[:-1]
        ids = self.tokenizer([segment.text for segment in segments], add_special_tokens=False).input_ids
        return ([] if self._is_templated(example) else self._bos) + [token for piece in ids for token in piece]

    def asked(self, prompt: str | Turns, place: str) -> list[int]:
        """The tokens after which an answer to a prompt begins, as a server would see them.

        Raises:
            TrainerError: DatasetInvalid where the chat template refuses the prompt, ModelInvalid where there is none.
        """
        if isinstance(prompt, str) and not self.tokenizer.chat_template:
            return self._bos + list(self.tokenizer(prompt, add_special_tokens=False).input_ids)
        turns: Turns = (("user", prompt),) if isinstance(prompt, str) else prompt
        text = self._render(turns, place, answer_next=True)
        return list(self.tokenizer(text, add_special_tokens=False).input_ids)

    def segments(self, example: Example) -> list[Segment]:
        """The text with its loss mask, before tokenisation; the last segment is supervised."""
        content = example.content
        if isinstance(content, Chat):
            return self._chat_segments(content.messages, example.place)
        if isinstance(content, Completion):
            if self._is_templated(example):
                return self._chat_segments((("user", content.prompt), ("assistant", content.completion)), example.place)
            return [
                Segment(content.prompt, supervised=self.loss_on_prompt),
                Segment(content.completion, supervised=True),
            ]
        return [Segment(content.text, supervised=True)] if isinstance(content, Text) else []

    def _is_templated(self, example: Example) -> bool:
        """A prompt and its completion become one chat turn where the model has a template: a server asks it the same way."""
        has_template = bool(self.tokenizer.chat_template)
        return isinstance(example.content, Chat) or (isinstance(example.content, Completion) and has_template)

    def _chat_segments(self, messages: Sequence[tuple[str, str]], place: str) -> list[Segment]:
        """Alternating context and answers, by rendering the conversation up to each border."""
        last = max(number for number, (role, _) in enumerate(messages) if role == "assistant")
        messages = messages[: last + 1]  # nothing after the last answer carries loss
        whole = self._render(messages, place, answer_next=False)
        segments, position = [], 0
        for number, (role, content) in enumerate(messages):
            if role != "assistant":
                continue
            start = _common_prefix(whole, self._render(messages[:number], place, answer_next=True)) if number else 0
            through = self._render(messages[: number + 1], place, answer_next=False) if number < last else whole
            # A template that rewrites earlier turns (it drops their reasoning, say) leaves them without loss.
            if start < position or not whole.startswith(through):
                continue
            answer = whole[start : len(through)]
            segments += [
                Segment(whole[position:start], supervised=self.loss_on_prompt),
                Segment(answer, supervised=self._teaches(content, is_last=number == last)),
            ]
            position = len(through)
        return segments

    def _teaches(self, answer: str, *, is_last: bool) -> bool:
        return self.loss_on_prompt or (bool(answer.strip()) and (is_last or not self.only_last_answer))

    def _render(self, messages: Sequence[tuple[str, str]], place: str, *, answer_next: bool) -> str:
        if not self.tokenizer.chat_template:
            raise TrainerError(
                TrainerReason.MODEL_INVALID,
                "The model has no chat template, which `format: messages` needs. Use a chat model, add "
                "`chat_template.jinja` to the model, or give the data as `promptCompletion`.",
            )
        turns = [{"role": role, "content": content} for role, content in messages]
        try:
            return str(self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=answer_next))
        except (TemplateError, TypeError, KeyError, IndexError) as error:
            roles = ", ".join(role for role, _ in messages)
            raise TrainerError(
                TrainerReason.DATASET_INVALID,
                f"{place}: the model's chat template refuses this conversation ({error}). Its roles are: {roles}.",
            ) from error

    def _join(self, segments: Sequence[Segment], pieces: Sequence[list[int]], *, templated: bool) -> Encoded:
        ids, mask = ([], []) if templated else (list(self._bos), [False] * len(self._bos))
        for segment, piece in zip(segments, pieces, strict=True):
            ids += piece
            mask += (
                self._piece_mask(piece, supervised=segment.supervised)
                if templated
                else [segment.supervised] * len(piece)
            )
        if not templated:  # where a template speaks, it writes its own end
            ids.append(self.tokenizer.eos_token_id)
            mask.append(True)
        return self._cut(ids, mask)

    def _piece_mask(self, piece: list[int], *, supervised: bool) -> list[bool]:
        """An answer is supervised up to its stop token; the line break a template writes after it teaches nothing."""
        if not supervised or self.loss_on_prompt:
            return [supervised] * len(piece)
        stops = [position for position, token in enumerate(piece) if token in self.stop_ids]
        end = stops[-1] + 1 if stops else len(piece)
        return [position < end for position in range(len(piece))]

    def _cut(self, ids: list[int], mask: list[bool]) -> Encoded:
        mask = [False, *mask[1:]]
        kept = slice(0, self.max_length)
        return Encoded(
            np.asarray(ids[kept], np.int32), np.asarray(mask[kept], np.bool_), cut=len(ids) > self.max_length
        )


def beginning_of(tokenizer: Any) -> list[int]:
    """What the tokenizer itself puts before a text: its BOS token, or nothing."""
    first = tokenizer("").input_ids[:1]
    return list(first) if first and first[0] == tokenizer.bos_token_id else []


def in_chunks(examples: Iterable[Example], size: int) -> Iterator[list[Example]]:
    """Lists of at most `size`."""
    remaining = iter(examples)
    while chunk := list(islice(remaining, size)):
        yield chunk


def _common_prefix(left: str, right: str) -> int:
    """Length of the longest common beginning."""
    if left.startswith(right):
        return len(right)
    return next((at for at, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))
