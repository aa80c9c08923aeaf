"""Texts with more than one label: sets of labels, tagged words, and questions about a context."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trimtab_trainer.data.files import RowError
from trimtab_trainer.data.values import label_of, list_of, object_of, text_of


@dataclass(frozen=True)
class MultiLabelled:
    """A text and the labels that are true of it: any number, also none."""

    text: str
    labels: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        """Nothing to read."""
        return not self.text.strip()


@dataclass(frozen=True)
class Tagged:
    """Words, each with its tag."""

    tokens: tuple[str, ...]
    tags: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        """Nothing to read."""
        return not any(token.strip() for token in self.tokens)


@dataclass(frozen=True)
class Questioned:
    """A question, the text that may answer it, and the answers as they stand there; none where it does not."""

    question: str
    context: str
    answers: tuple[tuple[str, int], ...]
    """`(text, first character in the context)`; the first one is learned, all of them count as right."""

    @property
    def is_empty(self) -> bool:
        """Nothing to read."""
        return not (self.question.strip() and self.context.strip())


@dataclass(frozen=True)
class OfTask:
    """An example of one of several tasks."""

    task: str
    content: Any

    @property
    def is_empty(self) -> bool:
        """Nothing to learn from."""
        return bool(self.content.is_empty)


def read_multi_labelled(cells: Mapping[str, Any], columns: Mapping[str, str]) -> MultiLabelled:
    """`{"text": ..., "labels": [...]}`."""
    labels = [label_of(label, columns["labels"]) for label in list_of(cells["labels"], columns["labels"])]
    return MultiLabelled(text_of(cells["text"], columns["text"]), tuple(dict.fromkeys(labels)))


def read_tagged(cells: Mapping[str, Any], columns: Mapping[str, str]) -> Tagged:
    """`{"tokens": [...], "tags": [...]}`."""
    tokens = [text_of(token, columns["tokens"]) for token in list_of(cells["tokens"], columns["tokens"])]
    tags = [label_of(tag, columns["tags"]) for tag in list_of(cells["tags"], columns["tags"])]
    if len(tokens) != len(tags):
        raise RowError(f"has {len(tokens)} in '{columns['tokens']}' and {len(tags)} in '{columns['tags']}'")
    return Tagged(tuple(tokens), tuple(tags))


def read_questioned(cells: Mapping[str, Any], columns: Mapping[str, str]) -> Questioned:
    """SQuAD's rows: `{"question": ..., "context": ..., "answers": {"text": [...], "answer_start": [...]}}`."""
    context, column = text_of(cells["context"], columns["context"]), columns["answers"]
    answers = object_of(cells["answers"], column)
    texts, starts = list_of(answers.get("text"), f"{column}.text"), answers.get("answer_start")
    if starts is None:
        starts = [context.find(text_of(text, f"{column}.text")) for text in texts]
    found = []
    for text, start in zip(texts, list_of(starts, f"{column}.answer_start"), strict=False):
        if not isinstance(start, int) or start < 0 or context[start : start + len(text)] != text or not text:
            raise RowError(f"the answer {text!r} does not stand at character {start} of '{columns['context']}'")
        found.append((text, start))
    if len(found) != len(texts):
        raise RowError(f"'{column}' has {len(texts)} texts and {len(starts)} starts")
    return Questioned(text_of(cells["question"], columns["question"]), context, tuple(found))
