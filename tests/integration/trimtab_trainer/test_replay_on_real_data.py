"""Replay with real weights on real questions: all-MiniLM-L6-v2 sends them to desks, of which two open later."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.assets import ASSETS, link_assets
from tests.support.memory_storage import MemoryStorage
from tests.support.rows import write_jsonl
from tests.support.training import make_job, run_job
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from trimtab_trainer.contract.exit_codes import ExitCode
from trimtab_trainer.contract.run_config import RunConfig

DESKS = ["Finance", "Health", "Home", "Medication", "Privacy"]
OLD = DESKS[:3]
"""Desks that the first version knows; the others open later."""


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryStorage:
    link_assets(tmp_path)
    (tmp_path / "desks").mkdir()
    for split in ("train", "test"):
        lines = (ASSETS / "data" / "triage-labelled" / f"{split}.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        write_jsonl(tmp_path / "desks" / f"{split}-old.jsonl", [row for row in rows if row["label"] in OLD])
        write_jsonl(tmp_path / "desks" / f"{split}-new.jsonl", [row for row in rows if row["label"] not in OLD])
    storage = MemoryStorage(tmp_path)
    storage.install(monkeypatch)
    return storage


def job(desks: str, *, data: dict[str, Any] | None = None, **changes: Any) -> RunConfig:
    return make_job(
        **{
            "model": {"uri": "s3://trimtab/assets/models/minilm-l6"},
            "task": {"sequenceClassification": {"labels": DESKS}},
            "method": {"full": {}},
            "data": {
                "train": [{"uri": f"s3://desks/train-{desks}.jsonl"}],
                "validation": [],
                "test": [{"uri": f"s3://desks/test-{desks}.jsonl", "name": desks}],
                "maxSequenceLength": 48,
                **(data or {}),
            },
            "training": {"maxSteps": 20, "globalBatchSize": 16, "learningRate": 2e-4, "precision": "auto"},
            "checkpoints": {"everySteps": None},
            **changes,
        }
    )


def publish(config: RunConfig, storage: MemoryStorage, name: str) -> dict[str, float]:
    storage.checkpoints.clear()
    ended = run_job(config, storage.root / name)
    assert ended.code == ExitCode.SUCCEEDED, ended.message.message
    found: dict[str, float] = storage.published["metrics"]
    return found


def from_version(storage: MemoryStorage) -> dict[str, Any]:
    """The next job's fields, for going on from what was published last."""
    shutil.copytree(storage.published["path"], storage.root / "versions" / "first")
    storage.artifact_metrics = dict(storage.published["metrics"])
    return {
        "model": {"uri": "modelversion://first"},
        "modelVersion": {
            "name": "first",
            "artifactUri": "s3://versions/first",
            "manifestSha256": 64 * "0",
            "format": "safetensors",
            "baseModel": {"uri": "s3://trimtab/assets/models/minilm-l6"},
        },
    }


@torch.no_grad()
def accuracy(model: Path, file: Path) -> float:
    """Of what was published, by transformers alone."""
    tokenizer, loaded = AutoTokenizer.from_pretrained(model), AutoModelForSequenceClassification.from_pretrained(model)
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    inputs = tokenizer([row["text"] for row in rows], padding=True, return_tensors="pt")
    found = loaded(**inputs).logits.argmax(-1)
    return sum(DESKS[index] == row["label"] for index, row in zip(found, rows, strict=True)) / len(rows)


def test_replay_keeps_old_desks_while_new_ones_open(storage: MemoryStorage) -> None:
    old, new = (storage.root / "desks" / f"test-{desks}.jsonl" for desks in ("old", "new"))
    publish(job("old"), storage, "first")
    before = accuracy(storage.published["path"], old)
    assert before > 0.9
    start = from_version(storage)
    found = {}
    for name, data in {
        "plain": {},
        "replay": {"general": [{"uri": "s3://desks/train-old.jsonl"}], "mixFraction": 0.3},
    }.items():
        publish(job("new", data=data, **start), storage, name)
        path = storage.published["path"]
        found[name] = (before - accuracy(path, old), accuracy(path, new))
    print(found)
    assert found["plain"][0] > 0.5
    assert found["replay"][0] < found["plain"][0] - 0.2
    assert min(learned for _, learned in found.values()) > 0.8
