"""Weights that are packed while they are read: the model that transformers would have made, without a mapped file left behind."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.tiny_models import write_tiny_llama
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BitsAndBytesConfig,
    GenerationConfig,
    LlamaForCausalLM,
)

from trimtab_trainer.model import from_pretrained

IDS = torch.arange(24).view(2, 12)


def four_bits() -> dict[str, Any]:
    settings = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)
    return {"quantization_config": settings, "device_map": "cpu"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = write_tiny_llama(tmp_path_factory.mktemp("whole"), hidden_size=64, intermediate_size=128)
    GenerationConfig(eos_token_id=[7, 257]).save_pretrained(directory)
    return directory


@pytest.fixture(scope="module", params=["one file", "several files", "bfloat16"])
def directory(request: pytest.FixtureRequest, whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if request.param == "one file":
        return whole
    model = LlamaForCausalLM.from_pretrained(whole)
    if request.param == "bfloat16":
        model = model.to(torch.bfloat16)
    other = tmp_path_factory.mktemp("other")
    model.save_pretrained(other, max_shard_size="100KB" if request.param == "several files" else "1GB")
    assert (len(list(other.glob("*.safetensors"))) > 1) == (request.param == "several files")
    return other


def test_a_model_packed_while_it_is_read_is_the_one_of_transformers(directory: Path) -> None:
    model, info = from_pretrained(AutoModelForCausalLM, directory, **four_bits())
    expected = LlamaForCausalLM.from_pretrained(directory, dtype=torch.float32, **four_bits())
    assert not info["missing_keys"]
    assert type(model) is LlamaForCausalLM
    assert model.name_or_path == str(directory)
    assert model.generation_config.eos_token_id == expected.generation_config.eos_token_id
    assert {name: value.dtype for name, value in model.named_parameters()} == {
        name: value.dtype for name, value in expected.named_parameters()
    }
    with torch.no_grad():
        assert torch.equal(model(IDS).logits, expected(IDS).logits)


def test_no_file_stays_mapped(tmp_path: Path) -> None:
    write_tiny_llama(tmp_path)
    model, _ = from_pretrained(AutoModelForCausalLM, tmp_path, **four_bits())
    assert model.num_parameters()
    assert str(tmp_path) not in Path("/proc/self/maps").read_text("utf-8")


def test_a_new_head_is_told(whole: Path) -> None:
    options = {**four_bits(), "num_labels": 3, "ignore_mismatched_sizes": True}
    options["quantization_config"].llm_int8_skip_modules = ["score"]
    model, info = from_pretrained(AutoModelForSequenceClassification, whole, **options)
    assert (info["missing_keys"], tuple(model.score.weight.shape)) == ({"score.weight"}, (3, 64))
