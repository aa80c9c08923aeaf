"""Rows of data files: a few of every format, the same in every run."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def chats(count: int, *, turns: int = 1) -> list[dict[str, Any]]:
    """Conversations of different lengths."""
    return [
        {
            "messages": [
                message
                for turn in range(turns)
                for message in (
                    {"role": "user", "content": f"Say {'very ' * (number % 7)}{number + turn}"},
                    {"role": "assistant", "content": f"{'well, ' * (number % 3)}{(number + turn) % 10}"},
                )
            ]
        }
        for number in range(count)
    ]


def labelled(count: int) -> list[dict[str, Any]]:
    """Texts that say their label."""
    return [
        {
            "text": f"{'so ' * (number % 5)}{'good' if number % 2 else 'bad'} {number}",
            "label": ["no", "yes"][number % 2],
        }
        for number in range(count)
    ]


def multi_labelled(count: int) -> list[dict[str, Any]]:
    """Texts that say their labels: both, one, or none."""
    return [
        {
            "text": f"{'so ' * (number % 5)}{'good ' if number % 2 else ''}{'new' if number % 3 else 'old'} {number}",
            "labels": [*(["kind"] if number % 2 else []), *(["fresh"] if number % 3 else [])],
        }
        for number in range(count)
    ]


def tagged(count: int) -> list[dict[str, Any]]:
    """Sentences with a person of one or two words."""
    return [
        {
            "tokens": ["so", *(number % 3) * ["very"], "Ann", *(number % 2) * ["Lee"], "left"],
            "tags": ["O", *(number % 3) * ["O"], "B-PER", *(number % 2) * ["I-PER"], "O"],
        }
        for number in range(count)
    ]


def questions(count: int) -> list[dict[str, Any]]:
    """Questions about a sentence with a number; some contexts are longer than a window of 64 tokens."""
    rows = []
    for number in range(count):
        context = f"{'and so on ' * (3 * (number % 3))}it is {number % 10} now"
        answer = str(number % 10)
        start = context.rindex(f"is {answer}") + 3
        rows.append(
            {"question": "what is it", "context": context, "answers": {"text": [answer], "answer_start": [start]}}
        )
    return rows


def preferences(count: int) -> list[dict[str, Any]]:
    """Kind answers are chosen; strings and messages in turn."""
    rows: list[dict[str, Any]] = []
    for number in range(count):
        asked, chosen, rejected = f"Help {'me ' * (number % 5)}{number}", f"Gladly, {number}", "No" + "!" * (number % 3)
        is_text = number % 2 == 0
        rows.append(
            {
                "prompt": asked if is_text else [{"role": "user", "content": asked}],
                "chosen": chosen if is_text else [{"role": "assistant", "content": chosen}],
                "rejected": rejected if is_text else [{"role": "assistant", "content": rejected}],
            }
        )
    return rows


def prompts(count: int) -> list[dict[str, Any]]:
    """Questions with a reference; strings and messages in turn."""
    return [
        {
            "prompt": asked if number % 2 else [{"role": "user", "content": asked}],
            "reference": str(number % 10),
        }
        for number, asked in ((number, f"Say {'very ' * (number % 4)}{number}") for number in range(count))
    ]


def write_jsonl(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
