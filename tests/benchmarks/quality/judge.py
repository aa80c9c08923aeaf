"""The test metric of saved models, by plain transformers. Usage: judge TASK DATA MODEL...      prints JSON by model folder"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer

LENGTH = 256


def main() -> None:
    """Accuracy of labels, or F1 of entities."""
    task, data, *folders = sys.argv[1:]
    rows = [json.loads(line) for line in Path(data, "test.jsonl").read_text("utf-8").splitlines()]
    judge = entity_f1 if task == "tokenClassification" else accuracy
    print(json.dumps({folder: judge(folder, rows) for folder in folders}))


@torch.no_grad()
def accuracy(folder: str, rows: list[dict[str, Any]]) -> float:
    """Share of right labels."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    right = 0
    for row in rows:
        encoded = tokenizer(row["text"], truncation=True, max_length=LENGTH, return_tensors="pt")
        right += model.config.id2label[int(model(**encoded).logits.argmax())] == row["label"]
    return right / len(rows)


@torch.no_grad()
def entity_f1(folder: str, rows: list[dict[str, Any]]) -> float:
    """Micro F1 of whole entities, as conlleval counts them."""
    model = AutoModelForTokenClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    shared = predicted = true = 0
    for row in rows:
        encoded = tokenizer(
            row["tokens"], is_split_into_words=True, truncation=True, max_length=LENGTH, return_tensors="pt"
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
