"""Greedy answers to a few held-out prompts: base against tuned, for readers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from transformers import GenerationConfig, StoppingCriteriaList

from trimtab_trainer.data.encoding import TextEncoder
from trimtab_trainer.data.formats import Chat, Completion, Example
from trimtab_trainer.data.prompt_encoding import PromptEncoder
from trimtab_trainer.data.prompts import Prompt
from trimtab_trainer.data.splits import Split
from trimtab_trainer.interruption import Interruption
from trimtab_trainer.model import TrainableModel
from trimtab_trainer.tasks.attention import attention_implementation

QUESTIONS = 5
MAXIMUM_ANSWER_TOKENS = 32


@dataclass(frozen=True)
class Question:
    """A held-out example as a server would see it."""

    prompt: str
    """For readers."""
    prompt_ids: list[int]
    reference: str


class Asking(Protocol):
    """An encoder of texts that a model answers."""

    @property
    def stop_ids(self) -> frozenset[int]:
        """Tokens at which an answer ends."""

    def prompt_ids(self, example: Example) -> list[int]:
        """The tokens a server would start generating from."""


def asking(encoder: object) -> Asking | None:
    """The encoder, where a model answers what it encodes."""
    return encoder if isinstance(encoder, TextEncoder | PromptEncoder) else None


def questions(split: Split, encoder: Asking) -> list[Question]:
    """The first examples of a split that have a prompt."""
    found: list[Question] = []
    for example, encoded in zip(split.examples, split.encoded, strict=True):
        if len(found) == QUESTIONS:
            break
        pair = _prompt_and_reference(example)
        if pair is not None and not encoded.cut:
            found.append(Question(pair[0], encoder.prompt_ids(example), pair[1]))
    return found


def answer(
    model: TrainableModel, asked: Sequence[Question], *, stop_ids: Sequence[int], stop: Callable[[], bool]
) -> list[str]:
    """Greedy answers, all in one batch.

    Raises:
        Interruption: SIGTERM came.
    """
    if not asked:
        return []
    model.module.eval()
    answers = write_answers(
        model,
        [question.prompt_ids for question in asked],
        stop_ids=stop_ids,
        maximum_tokens=MAXIMUM_ANSWER_TOKENS,
        stop=stop,
    )
    model.train()
    if stop():
        raise Interruption("SIGTERM while answering")
    return answers


@torch.no_grad()
def write_answers(
    model: TrainableModel,
    prompts: Sequence[list[int]],
    *,
    stop_ids: Sequence[int],
    maximum_tokens: int,
    stop: Callable[[], bool] = lambda: False,
) -> list[str]:
    """Greedy answers to tokenised prompts, in one batch padded on the left; unfinished ones when `stop` says so."""
    tokenizer, width = model.tokenizer, max(map(len, prompts))
    ids = torch.full((len(prompts), width), tokenizer.pad_token_id)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1

    def is_stopped(token_ids: torch.Tensor, _scores: Any, **_: Any) -> torch.Tensor:
        return torch.full((len(token_ids),), stop(), dtype=torch.bool, device=token_ids.device)

    settings = GenerationConfig(
        do_sample=False,
        max_new_tokens=maximum_tokens,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=list(stop_ids),
    )
    with attention_implementation(model.base, "sdpa"), model.autocast():
        output = model.module.generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            generation_config=settings,
            stopping_criteria=StoppingCriteriaList([is_stopped]),
        )
    return [str(text) for text in tokenizer.batch_decode(output[:, width:], skip_special_tokens=True)]


def _prompt_and_reference(example: Example) -> tuple[str, str] | None:
    content = example.content
    if isinstance(content, Completion):
        return content.prompt, content.completion
    if isinstance(content, Chat):
        last = max(number for number, (role, _) in enumerate(content.messages) if role == "assistant")
        if last:
            return content.messages[last - 1][1], content.messages[last][1]
    if isinstance(content, Prompt):
        return content.last_words, dict(content.columns).get("reference", "")
    return None
