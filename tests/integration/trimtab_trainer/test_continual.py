"""A chain of versions: what each was best at travels with it, and a later job's gates judge what was forgotten."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.support.memory_storage import MemoryStorage
from tests.support.rows import labelled, write_jsonl
from tests.support.training import make_job, run_job

from trimtab_trainer.contract.exit_codes import ExitCode
from trimtab_trainer.contract.run_config import RunConfig

GATES: list[dict[str, Any]] = [
    {"metric": "continual_forgetting_of_first", "source": "general", "successCondition": "result <= 0.1"},
    {"metric": "continual_average_accuracy", "source": "general", "successCondition": "result >= 0.9"},
]
VERSION: dict[str, Any] = {
    "name": "tone-v1",
    "artifactUri": "s3://versions/v1",
    "manifestSha256": 64 * "0",
    "format": "safetensors",
    "baseModel": {"uri": "s3://models/bert"},
}


def job(name: str, **changes: Any) -> RunConfig:
    data = {
        "train": [{"uri": f"s3://tasks/{name}.jsonl"}],
        "validation": [],
        "test": [{"uri": f"s3://tasks/{name}.jsonl", "name": name}],
        "maxSequenceLength": 64,
        **changes.pop("data", {}),
    }
    return make_job(
        **{
            "model": {"uri": "s3://models/bert"},
            "task": {"sequenceClassification": {"labels": ["no", "yes"]}},
            "method": {"full": {}},
            "training": {"maxSteps": 12, "learningRate": 0.003},
            "data": data,
            **changes,
        }
    )


def test_the_second_version_knows_what_the_first_could(storage: MemoryStorage, tmp_path: Path) -> None:
    (storage.root / "tasks").mkdir()
    rows = labelled(12)
    turned = [{**row, "label": {"no": "yes", "yes": "no"}[row["label"]]} for row in rows]
    write_jsonl(storage.root / "tasks" / "first.jsonl", rows)
    write_jsonl(storage.root / "tasks" / "second.jsonl", turned)
    ended = run_job(job("first"), tmp_path / "first")
    assert ended.code == ExitCode.SUCCEEDED, ended.message.message
    first = storage.published["metrics"]
    assert first["continual_learned_of_first"] == first["continual_best_of_first"] == first["test_accuracy"]
    shutil.copytree(storage.published["path"], storage.root / "versions" / "v1")
    # better than the version that training goes on from: an older one of the chain had it
    storage.artifact_metrics = {**first, "continual_best_of_first": 1.0}
    storage.checkpoints.clear()
    general = {"general": [{"uri": "s3://tasks/first.jsonl", "name": "first"}]}
    config = job(
        "second",
        model={"uri": "modelversion://tone-v1"},
        modelVersion=VERSION,
        data=general,
        evaluation={"gates": GATES},
    )
    ended = run_job(config, tmp_path / "second")
    assert ended.code == ExitCode.SUCCEEDED, ended.message.message
    second = storage.published["metrics"]
    now = second["continual_accuracy_of_first"]
    # the second says the opposite of the first
    assert now == pytest.approx(1 - second["test_accuracy"])
    assert second["continual_forgetting_of_first"] == second["continual_forgetting"] == pytest.approx(1.0 - now)
    assert second["continual_backward_transfer_of_first"] == pytest.approx(now - first["test_accuracy"])
    assert second["continual_average_accuracy"] == pytest.approx(0.5)
    assert second["continual_best_of_second"] == second["test_accuracy"]
    assert [gate.result for gate in ended.message.gates] == [
        repr(second["continual_forgetting_of_first"]),
        repr(second["continual_average_accuracy"]),
    ]
    assert "## What earlier data sets kept" in storage.objects["report.md"].decode()
