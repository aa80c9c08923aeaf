"""Several adapters of one base model: side by side by their names, and as one, exactly the weighted sum of what they add."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from tests.support.methods import make_model
from tests.support.tiny_models import write_tiny_llama
from tests.support.training import make_job
from transformers import AutoModelForCausalLM

from trimtab_trainer.errors import TrainerError
from trimtab_trainer.methods.combine import WEIGHTS_FILE, combine_adapters, main
from trimtab_trainer.publishing.export import export_model

FIRST: dict[str, Any] = {"lora": {"r": 4, "alpha": 8, "rankPattern": {"q_proj": 2}, "alphaPattern": {"v_proj": 3}}}
SECOND: dict[str, Any] = {"lora": {"r": 2, "alpha": 32, "useRslora": True, "targetModules": ["q_proj", "up_proj"]}}


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    return write_tiny_llama(tmp_path / "llama")


def adapter(method: dict[str, Any], llama: Path, directory: Path, *, seed: int) -> Path:
    """A published adapter whose weights are random."""
    config = make_job(method=method)
    model = make_model(config, llama)
    torch.manual_seed(seed)
    model.load_trainable({name: 0.1 * torch.randn_like(value) for name, value in model.trainable.items()})
    export_model(model, config, directory)
    return directory


def merged_weights(llama: Path, directory: Path) -> dict[str, torch.Tensor]:
    base = AutoModelForCausalLM.from_pretrained(llama)
    weights: dict[str, torch.Tensor] = PeftModel.from_pretrained(base, directory).merge_and_unload().state_dict()
    return weights


@pytest.mark.parametrize("second", [FIRST, SECOND], ids=["of the same shape", "of another shape"])
def test_what_it_adds_is_the_weighted_sum(second: dict[str, Any], llama: Path, tmp_path: Path) -> None:
    one = adapter(FIRST, llama, tmp_path / "one", seed=1)
    two = adapter(second, llama, tmp_path / "two", seed=2)
    assert main([str(tmp_path / "both"), f"0.7={one}", f"0.3={two}"]) == 0
    base = AutoModelForCausalLM.from_pretrained(llama).state_dict()
    first, other, both = (merged_weights(llama, directory) for directory in (one, two, tmp_path / "both"))
    for name, weight in base.items():
        torch.testing.assert_close(both[name], weight + 0.7 * (first[name] - weight) + 0.3 * (other[name] - weight))


@torch.no_grad()
def test_named_adapters_share_one_base_model(llama: Path, tmp_path: Path) -> None:
    """As docs/methods.md says: loaded once, each name gives what its adapter gives alone, and no name the base model."""

    def logits(model: Any) -> torch.Tensor:
        found: torch.Tensor = model(torch.arange(12)[None]).logits
        return found

    folders = {
        name: adapter(method, llama, tmp_path / name, seed=seed)
        for seed, (name, method) in enumerate({"tone": FIRST, "facts": SECOND}.items())
    }
    base = logits(AutoModelForCausalLM.from_pretrained(llama))
    alone = {
        name: logits(PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(llama), folder))
        for name, folder in folders.items()
    }
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(llama), folders["tone"], adapter_name="tone")
    model.load_adapter(folders["facts"], adapter_name="facts")
    for name in ("facts", "tone", "facts"):
        model.set_adapter(name)
        torch.testing.assert_close(logits(model), alone[name])
        assert float((alone[name] - base).abs().max()) > 0.1
    with model.disable_adapter():
        torch.testing.assert_close(logits(model), base)


def test_averaging_the_factors_would_be_something_else(llama: Path, tmp_path: Path) -> None:
    one = adapter(FIRST, llama, tmp_path / "one", seed=1)
    two = adapter(FIRST, llama, tmp_path / "two", seed=2)
    combine_adapters([(0.5, one), (0.5, two)], tmp_path / "both")
    left, right = load_file(one / WEIGHTS_FILE), load_file(two / WEIGHTS_FILE)
    naive = adapter(FIRST, llama, tmp_path / "naive", seed=1)
    save_file({name: (left[name] + right[name]) / 2 for name in left}, naive / WEIGHTS_FILE)
    name = "model.layers.0.mlp.up_proj.weight"
    exact, wrong = merged_weights(llama, tmp_path / "both")[name], merged_weights(llama, naive)[name]
    assert float((exact - wrong).abs().max()) > 0.1 * float((exact - merged_weights(llama, one)[name]).abs().max())


@pytest.mark.parametrize(
    ("method", "words"),
    [
        pytest.param({"lora": {"r": 2, "useDora": True}}, "is no plain LoRA adapter", id="DoRA"),
        pytest.param({"reft": {}}, "cannot be read", id="LoReFT"),
    ],
)
def test_what_is_no_sum_is_refused(method: dict[str, Any], words: str, llama: Path, tmp_path: Path) -> None:
    one = adapter(FIRST, llama, tmp_path / "one", seed=1)
    two = adapter(method, llama, tmp_path / "two", seed=2)
    with pytest.raises(TrainerError, match=words):
        combine_adapters([(0.5, one), (0.5, two)], tmp_path / "both")


def test_the_command_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["out"]) == 2
    assert "python -m trimtab_trainer.methods.combine" in capsys.readouterr().err
