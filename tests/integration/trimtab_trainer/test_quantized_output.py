"""`output.quantization`: what is published has fewer bits, loads with plain transformers, serves, and says what it cost."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.memory_storage import MemoryStorage
from tests.support.tiny_models import write_tiny_llama
from tests.support.training import make_job, run_job
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from trimtab_trainer.contract.exit_codes import ExitCode
from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.model import set_products
from trimtab_trainer.server.models import load_generation_model

INT8: dict[str, Any] = {"int8": {}}
NF4: dict[str, Any] = {"nf4": {"doubleQuantization": True}}
GATES: dict[str, Any] = {
    "gates": [{"metric": "quantization_change_loss", "source": "test", "successCondition": "result <= 0.1"}]
}
CLASSIFY: dict[str, Any] = {
    "model": {"uri": "s3://models/bert"},
    "task": {"sequenceClassification": {}},
    "data": {
        "train": [{"uri": "s3://data/train-labelled.jsonl"}],
        "validation": [{"uri": "s3://data/validation-labelled.jsonl"}],
        "test": [],
        "maxSequenceLength": 64,
    },
}


@pytest.fixture
def wide(storage: MemoryStorage) -> MemoryStorage:
    """Beside the others a model whose matrices are wide enough for blocks of 64."""
    if not (storage.root / "models" / "wide").exists():
        write_tiny_llama(storage.root / "models" / "wide", hidden_size=64, intermediate_size=128, num_key_value_heads=4)
    return storage


def job(quantization: dict[str, Any], **changes: Any) -> RunConfig:
    return make_job(
        **{
            "model": {"uri": "s3://models/wide"},
            "method": {"lora": {"r": 4}},
            "output": {"modelName": "small", "merge": True, "quantization": quantization},
            "training": {"maxSteps": 4},
            "evaluation": GATES,
            **changes,
        }
    )


@pytest.mark.parametrize(("quantization", "at_most"), [(INT8, 0.65), (NF4, 0.55)], ids=["int8", "nf4"])
def test_a_language_model_loads_with_plain_transformers_and_is_what_was_measured(
    quantization: dict[str, Any], at_most: float, wide: MemoryStorage, tmp_path: Path
) -> None:
    ended = run_job(job(quantization), tmp_path / "run")
    assert ended.code == ExitCode.SUCCEEDED, ended.message.message
    directory, metrics = wide.published["path"], wide.published["metrics"]
    report = json.loads(wide.objects["report.json"])["quantized"]
    # seven projections in each of two layers
    assert report["matrices"] == 14
    assert (directory / "model.safetensors").stat().st_size == report["bytesAfter"]
    assert report["bytesAfter"] < at_most * report["bytesBefore"]
    assert metrics["test_loss"] == report["after"]["test_loss"] != report["before"]["test_loss"]
    assert metrics["test_quantization_change_loss"] == pytest.approx(
        metrics["test_loss"] - report["before"]["test_loss"]
    )
    assert [gate.result for gate in ended.message.gates] == [repr(metrics["test_quantization_change_loss"])]
    assert "Quantised to" in (directory / "README.md").read_text()

    model = AutoModelForCausalLM.from_pretrained(directory)
    set_products(model, torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    losses = targets = 0.0
    for line in (wide.root / "data" / "test.jsonl").read_text().splitlines():
        messages = json.loads(line)["messages"]
        prompt = tokenizer.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True)
        ids = tokenizer(prompt + messages[-1]["content"] + "<|im_end|>", return_tensors="pt").input_ids
        start = len(tokenizer(prompt).input_ids)
        with torch.no_grad():
            logits = model(ids).logits[0, start - 1 : -1]
        losses += float(torch.nn.functional.cross_entropy(logits, ids[0, start:], reduction="sum"))
        targets += ids.shape[1] - start
    assert losses / targets == pytest.approx(metrics["test_loss"], rel=2e-3)


@pytest.mark.parametrize("quantization", [INT8, NF4], ids=["int8", "nf4"])
def test_the_built_in_server_loads_it(quantization: dict[str, Any], wide: MemoryStorage, tmp_path: Path) -> None:
    run_job(job(quantization, evaluation={}, data={"test": [], "validation": []}), tmp_path / "run")
    load_generation_model(wide.published["path"], max_length=128)  # compares batches with single rows


def test_a_classifier_keeps_its_head(storage: MemoryStorage, tmp_path: Path) -> None:
    output = {"modelName": "small", "quantization": INT8}
    ended = run_job(make_job(**CLASSIFY, method={"full": {}}, output=output), tmp_path / "run")
    assert ended.code == ExitCode.SUCCEEDED, ended.message.message
    model = AutoModelForSequenceClassification.from_pretrained(storage.published["path"])
    assert type(model.classifier).__name__ == "Linear"
    assert type(model.bert.encoder.layer[0].attention.self.query).__name__ == "Linear8bitLt"
    assert "eval_quantization_change_accuracy" in storage.published["metrics"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({"output": {"modelName": "a", "quantization": INT8}}, "publishes an adapter", id="an adapter"),
        pytest.param(
            {"model": {"uri": "s3://models/llama"}, "output": {"modelName": "a", "merge": True, "quantization": NF4}},
            "finds no matrix in LlamaForCausalLM",
            id="matrices that are too narrow",
        ),
    ],
)
def test_what_cannot_have_fewer_bits_is_refused(
    changes: dict[str, Any], words: str, wide: MemoryStorage, tmp_path: Path
) -> None:
    ended = run_job(job(INT8, **changes), tmp_path / "run")
    assert ended.code == ExitCode.CONFIG_INVALID
    assert words in ended.message.message


def test_training_does_not_go_on_from_fewer_bits(wide: MemoryStorage, tmp_path: Path) -> None:
    run_job(job(INT8, evaluation={}), tmp_path / "run")
    ended = run_job(make_job(model={"uri": "s3://published/."}, method={"full": {}}), tmp_path / "next")
    assert ended.code != ExitCode.SUCCEEDED
    assert "is quantised: training goes on from full weights" in ended.message.message
