"""The test metric of saved models, by plain transformers (and peft, or the documented loader, where it is an adapter).

Usage: judge TASK DATA BASE_MODEL LENGTH MODEL...      prints JSON by model folder, and under "base" what needs no training: the most
frequent label, and no entity at all.
"""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer

from trimtab_trainer.methods.own_adapters import with_adapter


def main() -> None:
    """Accuracy of labels, or F1 of entities."""
    task, data, base, length, *folders = sys.argv[1:]
    rows, train = rows_of(data, "test"), rows_of(data, "train")
    if task == "tokenClassification":
        found = {
            folder: entity_f1(loaded(AutoModelForTokenClassification, folder, base), folder, rows, length=int(length))
            for folder in folders
        }
        found["base"] = 0.0
    else:
        found = {
            folder: accuracy(loaded(AutoModelForSequenceClassification, folder, base), folder, rows, length=int(length))
            for folder in folders
        }
        [(usual, _)] = Counter(row["label"] for row in train).most_common(1)
        found["base"] = sum(row["label"] == usual for row in rows) / len(rows)
    print(json.dumps(found))


def rows_of(data: str, split: str) -> list[dict[str, Any]]:
    """The rows of one split."""
    return [json.loads(line) for line in Path(data, f"{split}.jsonl").read_text("utf-8").splitlines()]


def loaded(auto: Any, folder: str, base: str) -> Any:
    """A whole model, or the base model with an adapter."""
    if Path(folder, "config.json").exists():
        return auto.from_pretrained(folder).eval()
    labels = json.loads(Path(folder, "labels.json").read_text("utf-8"))
    names = dict(enumerate(labels))
    model = auto.from_pretrained(base, id2label=names, label2id={name: number for number, name in names.items()})
    return with_adapter(model, Path(folder)).eval()


@torch.no_grad()
def accuracy(model: Any, folder: str, rows: list[dict[str, Any]], *, length: int) -> float:
    """Share of right labels."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    right = 0
    for row in rows:
        encoded = tokenizer(row["text"], truncation=True, max_length=length, return_tensors="pt")
        right += model.config.id2label[int(model(**encoded).logits.argmax())] == row["label"]
    return right / len(rows)


@torch.no_grad()
def entity_f1(model: Any, folder: str, rows: list[dict[str, Any]], *, length: int) -> float:
    """Micro F1 of whole entities, as conlleval counts them."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    shared = predicted = true = 0
    for row in rows:
        encoded = tokenizer(
            row["tokens"], is_split_into_words=True, truncation=True, max_length=length, return_tensors="pt"
        )
        best = model(**encoded).logits[0].argmax(-1).tolist()
        tags = ["O"] * len(row["tokens"])
        for place, word in reversed(list(enumerate(encoded.word_ids()))):
            if word is not None:
                tags[word] = model.config.id2label[best[place]]
        found, wanted = entities(tags), entities(row["tags"])
        shared += len(found & wanted)
        predicted += len(found)
        true += len(wanted)
    return 2 * shared / (predicted + true) if predicted + true else 0.0


def entities(tags: list[str]) -> set[tuple[str, int, int]]:
    """`(kind, first word, last word)`."""
    found = set()
    start, kind = 0, ""
    for place, tag in enumerate([*tags, "O"]):
        prefix, _, name = tag.partition("-")
        if kind and (prefix != "I" or name != kind):
            found.add((kind, start, place - 1))
            kind = ""
        if name and not kind:
            start, kind = place, name
    return found


if __name__ == "__main__":
    main()
