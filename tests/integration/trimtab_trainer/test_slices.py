"""`data.slices` and `data.languages` in whole jobs: in metrics, gates, report and model card."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.memory_storage import MemoryStorage
from tests.support.rows import labelled, write_jsonl
from tests.support.training import make_job, run_job

from trimtab_trainer.contract.exit_codes import ExitCode
from trimtab_trainer.contract.run_config import RunConfig

GATES = [
    {"metric": "accuracy_gap_by_group", "source": "test", "successCondition": "result <= 0.2"},
    {"metric": "accuracy_worst_by_group", "source": "test", "successCondition": "result >= 0.5"},
]
GERMAN = {"text": "Meine Bestellung kam noch immer nicht an, was nun?", "label": "no"}


@pytest.fixture
def grouped(storage: MemoryStorage) -> MemoryStorage:
    """Rows with a group; in the group `b` the labels contradict the texts."""
    for split, count in (("train", 24), ("test", 12)):
        rows = [{**row, "group": "a"} for row in labelled(count)]
        turned = [{**row, "label": {"no": "yes", "yes": "no"}[row["label"]], "group": "b"} for row in labelled(count)]
        write_jsonl(storage.root / f"{split}.jsonl", [*rows, *(turned if split == "test" else [GERMAN])])
    return storage


def job(gates: list[dict[str, str]], **changes: Any) -> RunConfig:
    return make_job(
        model={"uri": "s3://models/bert"},
        task={"sequenceClassification": {}},
        method={"full": {}},
        training={"maxSteps": 12, "learningRate": 0.003},
        evaluation={"gates": gates},
        data={
            "train": [{"uri": "s3://./train.jsonl"}],
            "validation": [],
            "test": [{"uri": "s3://./test.jsonl"}],
            "maxSequenceLength": 64,
            "slices": {"columns": ["group"]},
            "languages": {"expected": ["en"], "others": "Drop"},
            **changes,
        },
    )


def test_a_model_that_works_for_one_group_only_shows_it(grouped: MemoryStorage, tmp_path: Path) -> None:
    ended = run_job(job(GATES), tmp_path / "run")
    assert ended.code == ExitCode.SUCCEEDED, ended.message.message
    report, metrics = json.loads(grouped.objects["report.json"]), grouped.published["metrics"]
    tuned = report["tuned"]
    by_group = [tuned[f"test_accuracy[group={name}]"] for name in "ab"]
    # the groups say the opposite of each other
    assert sum(by_group) == pytest.approx(1)
    assert by_group[0] > 0.6
    assert tuned["test_accuracy"] == pytest.approx(0.5)
    assert metrics["test_accuracy_gap_by_group"] == pytest.approx(by_group[0] - by_group[1])
    assert metrics["test_accuracy_worst_by_group"] == by_group[1]
    assert not any("[" in name for name in metrics)
    assert [gate.result for gate in ended.message.gates] == [
        repr(metrics["test_accuracy_gap_by_group"]),
        repr(metrics["test_accuracy_worst_by_group"]),
    ]
    assert all(gate.baseline is not None for gate in ended.message.gates)
    assert "## By group" in (grouped.published["path"] / "README.md").read_text()
    # the German row was left out
    assert report["data"][0]["examples"] == 24
    assert any(
        "1 of 25 training examples are in other languages than en (de: 1)" in text for text in report["warnings"]
    )


def test_a_column_that_no_row_has_is_refused(grouped: MemoryStorage, tmp_path: Path) -> None:
    ended = run_job(job([], slices={"columns": ["gender"]}), tmp_path / "run")
    assert ended.code == ExitCode.CONFIG_INVALID
    assert "`data.slices.columns: gender` is in no row" in ended.message.message
