"""Whole jobs of every task: what is published loads with plain libraries, and a resumed run equals an uninterrupted one."""

import json
from pathlib import Path
from typing import Any

import pytest
import transformers
from tests.support.media_models import write_media_files
from tests.support.training import CountedStop, Killed, MemoryStorage, make_job, run_job

from trimtab_trainer.contract.exit_codes import ExitCode
from trimtab_trainer.contract.run_config import RunConfig


@pytest.fixture(scope="session")
def media_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_media_files(tmp_path_factory.mktemp("media"))


@pytest.fixture
def storage(job_files: Path, media_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryStorage:
    for name in ("models", "data"):
        (tmp_path / name).mkdir()
        for source in (*(job_files / name).iterdir(), *(media_files / name).iterdir()):
            (tmp_path / name / source.name).symlink_to(source)
    storage = MemoryStorage(tmp_path)
    storage.install(monkeypatch)
    return storage


def job(task: dict[str, Any], data: str, *, model: str = "bert", **changes: Any) -> RunConfig:
    """Six steps of a task on a tiny model, all weights, in micro batches."""
    sources = {split: [{"uri": f"s3://data/{split}-{data}.jsonl"}] for split in ("train", "validation", "test")}
    return make_job(
        **{
            "model": {"uri": f"s3://models/{model}"},
            "task": task,
            "data": {**sources, "maxSequenceLength": 64},
            "method": {"full": {}},
            "training": {"microBatchSize": 2},
            **changes,
        }
    )


TASKS = [
    pytest.param(
        job({"sequenceClassification": {"multiLabel": True}}, "multi-labelled"),
        "AutoModelForSequenceClassification",
        "test_f1_micro",
        id="multi-label",
    ),
    pytest.param(job({"tokenClassification": {}}, "tagged"), "AutoModelForTokenClassification", "test_f1", id="tags"),
    pytest.param(
        job({"questionAnswering": {"stride": 16}}, "questions"),
        "AutoModelForQuestionAnswering",
        "test_exact_match",
        id="questions",
    ),
    pytest.param(
        job({"imageClassification": {"horizontalFlip": True, "cropPadding": 2}}, "images", model="vit"),
        "AutoModelForImageClassification",
        "test_accuracy",
        id="images",
    ),
    pytest.param(
        job({"objectDetection": {}}, "scenes", model="yolos"), "AutoModelForObjectDetection", "test_map", id="boxes"
    ),
    pytest.param(
        job({"imageTextMatching": {}}, "images", model="clip"), "AutoModel", "test_recall_at_1", id="images and texts"
    ),
    pytest.param(
        job({"speechRecognition": {}}, "tones", model="wav2vec2"),
        "AutoModelForCTC",
        "test_word_error_rate",
        id="speech",
    ),
]


@pytest.mark.parametrize(("config", "auto_model", "metric"), TASKS)
def test_a_killed_and_resumed_run_equals_an_uninterrupted_one(
    config: RunConfig, auto_model: str, metric: str, storage: MemoryStorage, tmp_path: Path
) -> None:
    stop = CountedStop()
    whole = run_job(config, tmp_path / "whole", stop=stop)
    assert whole.code == ExitCode.SUCCEEDED, whole.message.message
    expected_history, (_, expected_state) = storage.history, storage.checkpoints[6]
    assert metric in storage.published["metrics"]
    assert f"{auto_model}.from_pretrained" in storage.objects["report.md"].decode()
    loaded = getattr(transformers, auto_model).from_pretrained(storage.published["path"])
    if (labels := storage.published["path"] / "labels.json").exists():
        assert [loaded.config.id2label[number] for number in range(loaded.config.num_labels)] == json.loads(
            labels.read_text()
        )
    storage.checkpoints.clear()
    with pytest.raises(Killed):
        run_job(config, tmp_path / "killed", stop=CountedStop(kill_at=stop.looks // 2))
    resumed = run_job(config, tmp_path / "resumed")
    assert resumed.code == ExitCode.SUCCEEDED, resumed.message.message
    assert resumed.report.resumed_from_step
    assert storage.history == expected_history
    assert storage.checkpoints[6][1] == expected_state


@pytest.mark.parametrize(
    ("task", "data", "model"),
    [
        pytest.param({"tokenClassification": {}}, "tagged", "bert", id="tags"),
        pytest.param({"questionAnswering": {}}, "questions", "bert", id="questions"),
        pytest.param({"sequenceClassification": {"multiLabel": True}}, "multi-labelled", "bert", id="multi-label"),
        pytest.param({"imageClassification": {}}, "images", "vit", id="images"),
        pytest.param({"objectDetection": {}}, "scenes", "yolos", id="boxes"),
        pytest.param({"imageTextMatching": {}}, "images", "clip", id="images and texts"),
        pytest.param({"speechRecognition": {}}, "tones", "wav2vec2", id="speech"),
    ],
)
@pytest.mark.parametrize("method", ["lora", "headOnly"])
def test_other_methods_train_the_new_head(
    task: dict[str, Any], data: str, model: str, method: str, storage: MemoryStorage, tmp_path: Path
) -> None:
    config = job(task, data, model=model, method={method: {}}, training={"maxSteps": 1})
    ended = run_job(config, tmp_path / "run")
    assert ended.code == ExitCode.SUCCEEDED, ended.message.message
