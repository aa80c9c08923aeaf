"""Whole runs without a learning rate, or without a length: what they chose, and that the report says it."""

from pathlib import Path
from typing import Any

import pytest
from tests.support.memory_storage import MemoryStorage
from tests.support.training import make_job, run_job

from trimtab_trainer.contract.exit_codes import ExitCode
from trimtab_trainer.methods.registry import METHODS

CLASSIFY: dict[str, Any] = {
    "model": {"uri": "s3://models/bert"},
    "task": {"sequenceClassification": {}},
    "data": {split: [{"uri": f"s3://data/{split}-labelled.jsonl"}] for split in ("train", "validation", "test")},
}
PREFER: dict[str, Any] = {
    "objective": {"dpo": {}},
    "data": {split: [{"uri": f"s3://data/{split}-preferences.jsonl"}] for split in ("train", "validation", "test")},
}
FULL, LORA = METHODS["full"], METHODS["lora"]
DEFAULT = "(the default)"


@pytest.mark.parametrize(
    ("changes", "training", "rate"),
    [
        pytest.param({}, {}, LORA.learning_rate, id="a language model has its head"),
        pytest.param(CLASSIFY, {}, LORA.new_head_learning_rate, id="a classifier's head is new"),
        pytest.param({**CLASSIFY, "method": {"full": {}}}, {}, FULL.new_head_learning_rate, id="full, new head"),
        pytest.param(
            {**CLASSIFY, "method": {"full": {}}, "objective": {"fewShot": {}}},
            {},
            FULL.learning_rate,
            id="a head that is fitted need not learn",
        ),
        pytest.param(PREFER, {}, LORA.learning_rate / 10, id="answers that are compared"),
        pytest.param(CLASSIFY, {"learningRate": 0.0002}, 0.0002, id="the user's own"),
    ],
)
def test_the_peak_learning_rate(
    changes: dict[str, Any], training: dict[str, Any], rate: float, storage: MemoryStorage, tmp_path: Path
) -> None:
    document = make_job(**changes).to_json()
    schedule = {"constant": {"warmupRatio": 0}}
    document["training"] = {"maxSteps": 2, "globalBatchSize": 4, "schedule": schedule, **training}
    end = run_job(type(make_job()).model_validate(document), tmp_path / "scratch")
    assert end.code == ExitCode.SUCCEEDED
    assert [line["learning_rate"] for line in storage.history if "learning_rate" in line] == [rate, rate]
    report = storage.objects["report.md"].decode()
    assert f"peak learning rate {rate:g}" in report
    assert (DEFAULT in report) == (not training)
    assert f"| learningRate | {rate} |" in (storage.published["path"] / "README.md").read_text("utf-8")
