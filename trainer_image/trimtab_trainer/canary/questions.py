"""Held-out rows as questions to an endpoint, each with the answer that is right."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trimtab_trainer.contract.canary import CanaryJobConfig
from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.spec import DataFormat
from trimtab_trainer.data.formats import Chat, Completion, Example, Labelled
from trimtab_trainer.errors import TrainerError

CHAT, COMPLETIONS, CLASSIFY = "/v1/chat/completions", "/v1/completions", "/v1/classify"
FORMATS_OF_TASK: dict[str, tuple[DataFormat, ...]] = {
    "causalLanguageModeling": ("messages", "promptCompletion"),
    "sequenceClassification": ("labelled",),
}


@dataclass(frozen=True)
class Question:
    """One request, but for the model's name."""

    place: str
    """Where its row stands, for messages."""
    path: str
    body: dict[str, Any]
    expected: str
    fallback: dict[str, Any] | None = None
    """What to POST to /v1/completions where the model has no chat template."""


def questions(examples: Sequence[Example], config: CanaryJobConfig) -> list[Question]:
    """At most `config.examples`, the same ones every time: chosen by a hash of what they say.

    Raises:
        TrainerError: DatasetInvalid where no row can be asked.
    """
    chosen = sorted((one for one in examples if not one.content.is_empty), key=lambda one: one.fingerprint)
    found = [_question(one, config.max_tokens) for one in chosen[: config.examples]]
    if not found:
        raise TrainerError(TrainerReason.DATASET_INVALID, f"{config.data.uri} has no row that can be asked.")
    return found


def _question(example: Example, max_tokens: int) -> Question:
    content, greedy = example.content, {"temperature": 0, "max_tokens": max_tokens}
    if isinstance(content, Labelled):
        return Question(example.place, CLASSIFY, {"input": content.text}, content.label)
    if isinstance(content, Completion):
        turn = [{"role": "user", "content": content.prompt}]
        fallback = {"prompt": content.prompt, **greedy}
        return Question(example.place, CHAT, {"messages": turn, **greedy}, content.completion, fallback)
    if not isinstance(content, Chat):
        raise TypeError(f"{type(content).__name__} is no question")
    last = max(number for number, (role, text) in enumerate(content.messages) if role == "assistant" and text.strip())
    turns = [{"role": role, "content": text} for role, text in content.messages[:last]]
    return Question(example.place, CHAT, {"messages": turns, **greedy}, content.messages[last][1])


def answer_in(path: str, reply: dict[str, Any]) -> str:
    """The text or the label of a reply."""
    if path == CLASSIFY:
        return str(reply["data"][0]["label"])
    choice = reply["choices"][0]
    return str(choice["message"]["content"] if path == CHAT else choice["text"])
