"""Where a model goes wrong, as the report of a whole run shows it."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.memory_storage import MemoryStorage
from tests.support.training import make_job, run_job

LABELLED: dict[str, Any] = {
    "model": {"uri": "s3://models/bert"},
    "task": {"sequenceClassification": {}},
    "data": {
        "train": [{"uri": "s3://data/train-labelled.jsonl"}],
        "validation": [{"uri": "s3://data/validation-labelled.jsonl"}],
        "test": [{"uri": "s3://data/test-labelled.jsonl"}],
    },
    "method": {"lora": {"r": 2}},
}


def test_a_classifiers_confusion_agrees_with_its_accuracy_and_loss(storage: MemoryStorage, tmp_path: Path) -> None:
    ended = run_job(make_job(**LABELLED), tmp_path / "run")
    assert ended.code == 0, ended.message.message
    report = json.loads(storage.objects["report.json"])
    errors, tuned = report["errors"], report["tuned"]
    counts = errors["confusion"]["counts"]
    total = sum(map(sum, counts))
    assert (errors["split"], errors["examined"], total) == ("test", 6, 6)
    assert sum(counts[label][label] for label in range(2)) / total == pytest.approx(tuned["test_accuracy"])
    assert sum(one["loss"] for one in errors["worst"]) / 6 == pytest.approx(tuned["test_loss"], rel=1e-5)
    wrong = [one for one in errors["worst"] if one["predicted"] != one["expected"]]
    assert len(wrong) == total - sum(counts[label][label] for label in range(2))
    assert errors["worst"][: len(wrong)] == wrong, "of two labels, what is wrong has the higher loss"
    assert storage.objects["confusion.png"].startswith(b"\x89PNG")
    assert "![Confusion matrix](confusion.png)" in storage.objects["report.md"].decode()


@pytest.mark.parametrize("packing", [True, False])
def test_a_language_models_worst_examples(packing: bool, storage: MemoryStorage, tmp_path: Path) -> None:  # noqa: FBT001
    ended = run_job(make_job(data={"packing": packing}), tmp_path / "run")
    assert ended.code == 0, ended.message.message
    report = json.loads(storage.objects["report.json"])
    losses = [one["loss"] for one in report["errors"]["worst"]]
    assert losses == sorted(losses, reverse=True)
    assert len(losses) == 5
    assert min(losses) <= report["tuned"]["test_loss"] <= max(losses)
    assert report["errors"]["worst"][0]["text"].startswith("Say ")
    assert "confusion" not in report["errors"]
    assert "Highest loss first" in storage.objects["report.md"].decode()
