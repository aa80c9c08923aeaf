"""Full fine-tuning by Hugging Face's Trainer with its defaults. Usage: with_trainer TASK MODEL DATA OUTPUT EPOCHS LENGTH SEEDS

What it makes lies in `OUTPUT/with_trainer-<seed>`. SEEDS are separated by commas.

As the course of Hugging Face teaches it: tokenise, a dynamically padding collator, TrainingArguments as they come (batches of 8,
AdamW at 5e-5 falling to 0 on a line), the last weights.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

IGNORED = -100


def main() -> None:
    """Every seed."""
    task, model, data, output, epochs, length, seeds = sys.argv[1:]
    for seed in seeds.split(","):
        run(
            task, model, data, f"{output}/with_trainer-{seed}", epochs=float(epochs), length=int(length), seed=int(seed)
        )


def run(task: str, model_folder: str, data: str, output: str, *, epochs: float, length: int, seed: int) -> None:
    """Train and save."""
    rows = [json.loads(line) for line in Path(data, "train.jsonl").read_text("utf-8").splitlines()]
    tokenizer = AutoTokenizer.from_pretrained(model_folder, model_max_length=length)
    is_tagging = task == "tokenClassification"
    names = sorted({tag for row in rows for tag in row["tags"]} if is_tagging else {row["label"] for row in rows})
    torch.manual_seed(seed)  # a new head starts at random
    loader = AutoModelForTokenClassification if is_tagging else AutoModelForSequenceClassification
    model = loader.from_pretrained(
        model_folder, id2label=dict(enumerate(names)), label2id={name: n for n, name in enumerate(names)}
    )
    encode = encode_words if is_tagging else encode_text
    collator = (DataCollatorForTokenClassification if is_tagging else DataCollatorWithPadding)(tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        Trainer(
            model,
            args=TrainingArguments(
                output_dir=folder,
                num_train_epochs=epochs,
                seed=seed,
                save_strategy="no",
                report_to=[],
                use_cpu=True,
                disable_tqdm=True,
            ),
            train_dataset=[encode(row, tokenizer, names) for row in rows],
            data_collator=collator,
        ).train()
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)


def encode_text(row: dict[str, Any], tokenizer: Any, names: list[str]) -> dict[str, Any]:
    """A text and its label."""
    return {**tokenizer(row["text"], truncation=True), "labels": names.index(row["label"])}


def encode_words(row: dict[str, Any], tokenizer: Any, names: list[str]) -> dict[str, Any]:
    """Words and their tags; each word's first piece carries its tag."""
    encoded = tokenizer(row["tokens"], is_split_into_words=True, truncation=True)
    words = encoded.word_ids()
    labels = [
        names.index(row["tags"][word]) if word is not None and word != before else IGNORED
        for before, word in zip([None, *words], words, strict=False)
    ]
    return {**encoded, "labels": labels}


if __name__ == "__main__":
    main()
