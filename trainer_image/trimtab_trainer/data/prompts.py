"""What rows of the formats `preference` and `prompt` say: prompts, and answers that people compared."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trimtab_trainer.data.files import RowError
from trimtab_trainer.data.values import Turns, text_of, turns_of


@dataclass(frozen=True)
class Preference:
    """Two answers to one prompt, of which somebody liked the first one better: all as plain text, or all as messages."""

    prompt: str | Turns
    chosen: str | Turns
    rejected: str | Turns

    @property
    def is_empty(self) -> bool:
        """There is nothing to choose."""
        return self.chosen == self.rejected or not _says(self.chosen) or not _says(self.rejected)


@dataclass(frozen=True)
class Prompt:
    """What a model is asked, and what its row says besides: what rewards compare answers with."""

    prompt: str | Turns
    columns: tuple[tuple[str, str], ...]

    @property
    def is_empty(self) -> bool:
        """Nothing is asked."""
        return not _says(self.prompt)

    @property
    def last_words(self) -> str:
        """For readers."""
        return self.prompt if isinstance(self.prompt, str) else self.prompt[-1][1]


def read_preference(cells: Mapping[str, Any], columns: Mapping[str, str]) -> Preference:
    """Strings, or lists of messages; an answer may repeat the prompt's messages, as many data sets have it."""
    prompt, chosen, rejected = (_asked(cells[role], columns[role]) for role in ("prompt", "chosen", "rejected"))
    if isinstance(prompt, str) and isinstance(chosen, str) and isinstance(rejected, str):
        return Preference(prompt, chosen, rejected)
    asked = (("user", prompt),) if isinstance(prompt, str) else prompt
    return Preference(asked, _answer(asked, chosen, columns["chosen"]), _answer(asked, rejected, columns["rejected"]))


def read_prompt(value: Any, column: str, row: Mapping[str, Any]) -> Prompt:
    """The prompt, and all other columns as text."""
    prompt = _asked(value, column)
    if not isinstance(prompt, str) and prompt and prompt[-1][0] == "assistant":
        raise RowError(f"'{column}' ends with a message of the assistant; the model is to write that one")
    others = {str(name): cell for name, cell in row.items() if name != column and cell is not None}
    return Prompt(prompt, tuple((name, _plain(cell)) for name, cell in others.items()))


def _asked(value: Any, column: str) -> str | Turns:
    return turns_of(value, column) if isinstance(value, list) else text_of(value, column)


def _answer(asked: Turns, answer: str | Turns, column: str) -> Turns:
    turns = (("assistant", answer),) if isinstance(answer, str) else answer
    if turns and turns[0][0] != "assistant":
        if turns[: len(asked)] != asked:
            raise RowError(f"'{column}' begins with other messages than the prompt's; give the answer alone")
        turns = turns[len(asked) :]
    if not turns or turns[-1][0] != "assistant":
        raise RowError(f"'{column}' must end with a message of the assistant")
    return turns


def _plain(cell: Any) -> str:
    return cell if isinstance(cell, str) else json.dumps(cell, ensure_ascii=False, default=str)


def _says(words: str | Turns) -> bool:
    return any(content.strip() for content in ([words] if isinstance(words, str) else [text for _, text in words]))
