"""Whole jobs of every task: what is published loads with plain libraries, and a resumed run equals an uninterrupted one."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import get_peft_model_state_dict
from safetensors.torch import load_file
from tests.support.memory_storage import MemoryStorage
from tests.support.training import CountedStop, Killed, make_job, run_job

from trimtab_trainer.contract.exit_codes import ExitCode
from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.contract.spec import DataSource
from trimtab_trainer.publishing.export import loading_code
from trimtab_trainer.tasks.multi_task import InputOfTask, MultiTaskLearning
from trimtab_trainer.tasks.multi_task_model import HeadShape, MultiTaskModel


@pytest.fixture
def storage(media_storage: MemoryStorage) -> MemoryStorage:
    return media_storage


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


def several(temperature: float, **changes: Any) -> RunConfig:
    """Three tasks over one trunk, of different sizes."""
    heads = {
        "tone": ({"sequenceClassification": {}}, "labelled"),
        "people": ({"tokenClassification": {}}, "tagged"),
        "numbers": ({"questionAnswering": {"stride": 16}}, "questions"),
    }
    tasks = [{"name": name, "head": head} for name, (head, _) in heads.items()]
    config = job({"multiTask": {"tasks": tasks, "temperature": temperature}}, "labelled", **changes)
    sources = {
        split: [{"uri": f"s3://data/{split}-{data}.jsonl", "task": name} for name, (_, data) in heads.items()]
        for split in ("train", "validation", "test")
    }
    document = config.to_json()
    return RunConfig.model_validate({**document, "data": {**document["data"], **sources}})


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


@pytest.mark.parametrize(("method", "temperature"), [("full", 1.0), ("full", 5.0), ("lora", 1.0), ("headOnly", 1.0)])
def test_several_tasks_over_one_trunk(method: str, temperature: float, storage: MemoryStorage, tmp_path: Path) -> None:
    config = several(temperature, method={method: {}})
    stop = CountedStop()
    whole = run_job(config, tmp_path / "whole", stop=stop)
    assert whole.code == ExitCode.SUCCEEDED, whole.message.message
    metrics = storage.published["metrics"]
    assert {"test_loss", "test_tone_accuracy", "test_people_f1", "test_numbers_exact_match"} <= metrics.keys()
    assert metrics["test_loss"] == pytest.approx(
        sum(metrics[f"test_{name}_loss"] for name in ("tone", "people", "numbers")) / 3
    )
    assert metrics["test_loss"] < metrics["baseline_test_loss"]
    expected_history, (_, expected_state) = storage.history, storage.checkpoints[6]
    storage.checkpoints.clear()
    with pytest.raises(Killed):
        run_job(config, tmp_path / "killed", stop=CountedStop(kill_at=stop.looks // 2))
    resumed = run_job(config, tmp_path / "resumed")
    assert resumed.report.resumed_from_step
    assert (storage.history, storage.checkpoints[6][1]) == (expected_history, expected_state)


def test_a_model_of_several_tasks_loads_as_its_card_says(storage: MemoryStorage, tmp_path: Path) -> None:
    ended = run_job(several(1.0), tmp_path / "run")
    assert ended.code == ExitCode.SUCCEEDED, ended.message.message
    path = storage.published["path"]
    trunk = transformers.AutoModel.from_pretrained(path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    heads = load_file(path / "heads.safetensors")
    labels = json.loads((path / "labels.json").read_text())
    assert labels == ["tone/no", "tone/yes", "people/B-PER", "people/I-PER", "people/O", "numbers/start", "numbers/end"]
    inputs = tokenizer("so good 7", return_tensors="pt")
    inputs.pop("token_type_ids", None)
    loaded, info = MultiTaskModel.from_pretrained(
        path, heads={"tone": HeadShape(2, of_whole_text=True)}, output_loading_info=True
    )
    assert info["missing_keys"] == []
    with torch.no_grad():
        states = trunk.eval()(**inputs).last_hidden_state
        expected = loaded.eval()("tone", **inputs).logits
    found = states.mean(1) @ heads["tone_head.weight"].T + heads["tone_head.bias"]
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        pytest.param(
            {}, "`task: (absent)` of s3://data/train-labelled.jsonl must be one of: tone, people", id="absent"
        ),
        pytest.param({"task": "colour"}, "`task: colour` .* must be one of: tone, people", id="unknown"),
    ],
)
def test_data_of_no_known_task_is_refused(
    source: dict[str, str], words: str, storage: MemoryStorage, tmp_path: Path
) -> None:
    config = several(1.0)
    wrong = DataSource(uri="s3://data/train-labelled.jsonl", **source)
    data = config.data.model_copy(update={"train": [wrong]})
    ended = run_job(config.model_copy(update={"data": data}), tmp_path / "run")
    assert ended.code == ExitCode.CONFIG_INVALID
    assert re.search(words.replace("(", r"\(").replace(")", r"\)"), ended.message.message), ended.message.message


def test_a_split_without_one_of_the_tasks_is_refused(storage: MemoryStorage, tmp_path: Path) -> None:
    config = several(1.0)
    data = config.data.model_copy(update={"validation": config.data.validation[:1]})
    ended = run_job(config.model_copy(update={"data": data}), tmp_path / "run")
    assert ended.code == ExitCode.DATASET_INVALID
    assert "examples of tone and none of people" in ended.message.message


def test_examples_are_drawn_by_temperature() -> None:
    task = several(2.0).task.multi_task
    assert task is not None
    inputs = [InputOfTask(name, None) for name, count in {"tone": 90, "people": 10}.items() for _ in range(count)]
    found = MultiTaskLearning(task).sampling(inputs)
    assert found is not None
    assert sum(found) == pytest.approx(1.0)
    assert sum(found[:90]) == pytest.approx(90**0.5 / (90**0.5 + 10**0.5))
    assert MultiTaskLearning(task.model_copy(update={"temperature": 1.0})).sampling(inputs) is None


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
    if method == "lora":
        check_adapter(config, tmp_path, storage.published["path"])


def check_adapter(config: RunConfig, root: Path, path: Path) -> None:
    """Loaded by the code of its model card, the adapter has every tensor of its file."""
    code = loading_code(config).replace("ADAPTER_DIRECTORY", str(path))
    code = code.replace("BASE_MODEL_DIRECTORY", str(root / config.model.uri.removeprefix("s3://")))
    names: dict[str, Any] = {}
    if (path / "labels.json").exists():
        names["LABELS"] = json.loads((path / "labels.json").read_text())
    exec(code, names)
    loaded, saved = (
        get_peft_model_state_dict(names["model"], save_embedding_layers=False),
        load_file(path / "adapter_model.safetensors"),
    )
    assert saved.keys() == loaded.keys()
    assert all(torch.equal(saved[name], loaded[name].float()) for name in saved)


def test_an_adapter_of_several_tasks_loads_as_its_card_says(storage: MemoryStorage, tmp_path: Path) -> None:
    config = several(1.0, method={"lora": {}}, training={"maxSteps": 1})
    ended = run_job(config, tmp_path / "run")
    assert ended.code == ExitCode.SUCCEEDED, ended.message.message
    check_adapter(config, tmp_path, storage.published["path"])
