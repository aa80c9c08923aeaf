"""Few-shot learning on a sentence encoder: the head reads the mean over the tokens, and what is published is an ordinary classifier."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.support.memory_storage import MemoryStorage
from tests.support.training import CountedStop, Killed, make_job, run_job
from transformers import AutoModelForSequenceClassification

from trimtab_trainer.contract.exit_codes import ExitCode
from trimtab_trainer.contract.run_config import RunConfig

LAYERS = 2
"""Of the tiny BERT."""


@pytest.fixture
def encoder(storage: MemoryStorage) -> MemoryStorage:
    """A store with a model that says that it pools by the mean."""
    directory = storage.root / "encoders" / "mean"
    shutil.copytree(storage.root / "models" / "bert", directory)
    (directory / "1_Pooling").mkdir()
    (directory / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    return storage


def job(**changes: Any) -> RunConfig:
    data = {split: [{"uri": f"s3://data/{split}-labelled.jsonl"}] for split in ("train", "validation", "test")}
    return make_job(
        **{
            "model": {"uri": "s3://encoders/mean"},
            "task": {"sequenceClassification": {}},
            "objective": {"fewShot": {}},
            "method": {"full": {}},
            "data": data,
            **changes,
        }
    )


@pytest.mark.parametrize(
    ("changes", "layers"),
    [
        pytest.param({}, LAYERS + 1, id="the mean"),
        pytest.param({"objective": {"fewShot": {"pooling": "head"}}}, LAYERS, id="the user wants the first token"),
        pytest.param({"objective": {"supervised": {}}}, LAYERS, id="another objective"),
        pytest.param({"model": {"uri": "s3://models/bert"}}, LAYERS, id="no sentence encoder"),
    ],
)
def test_one_layer_more_makes_the_mean(
    changes: dict[str, Any], layers: int, encoder: MemoryStorage, tmp_path: Path
) -> None:
    assert run_job(job(**changes), tmp_path / "scratch").code == ExitCode.SUCCEEDED
    loaded = AutoModelForSequenceClassification.from_pretrained(encoder.published["path"])
    assert loaded.config.num_hidden_layers == layers


def test_an_adapter_fits_the_base_model(encoder: MemoryStorage, tmp_path: Path) -> None:
    assert run_job(job(method={"lora": {"r": 4}}), tmp_path / "scratch").code == ExitCode.SUCCEEDED
    names = (encoder.published["path"] / "adapter_model.safetensors").read_bytes()
    assert f"layer.{LAYERS - 1}.".encode() in names
    assert f"layer.{LAYERS}.".encode() not in names


def test_a_resumed_run_is_the_same_run(encoder: MemoryStorage, tmp_path: Path) -> None:
    stop = CountedStop()
    run_job(job(), tmp_path / "whole", stop=stop)
    history, checkpoint = encoder.history, encoder.checkpoints[6][1]
    encoder.checkpoints.clear()
    with pytest.raises(Killed):
        run_job(job(), tmp_path / "killed", stop=CountedStop(kill_at=stop.looks * 2 // 3))
    assert run_job(job(), tmp_path / "resumed").report.resumed_from_step
    assert (encoder.history, encoder.checkpoints[6][1]) == (history, checkpoint)
