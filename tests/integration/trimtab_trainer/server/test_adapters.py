"""What the server loads, and what it refuses to."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.support import serving
from transformers import BertConfig, BertLMHeadModel, MistralConfig, MistralForCausalLM

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.server.models import load_generation_model, try_rows

Change = Callable[[Path], object]


def settings(**changes: Any) -> Change:
    """Change adapter_config.json."""

    def change(directory: Path) -> None:
        path = directory / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def weights(edit: Callable[[dict[str, Any]], dict[str, Any]]) -> Change:
    """Change adapter_model.safetensors."""

    def change(directory: Path) -> None:
        path = directory / "adapter_model.safetensors"
        save_file(edit(load_file(path)), path)

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param(
            lambda folder: (folder / "adapter_config.json").write_text('{"peft_type": "IA3"}'),
            "LoRA adapters; this is",
            id="another kind",
        ),
        pytest.param(settings(peft_type="NEW"), "cannot be read", id="an unknown kind"),
        pytest.param(settings(use_dora=True), "use_dora", id="DoRA cannot be mixed in a batch"),
        pytest.param(settings(bias="all"), "bias", id="changes the base model's biases"),
        pytest.param(settings(init_lora_weights="pissa"), "pissa", id="changes the base model's weights"),
        pytest.param(
            settings(megatron_config={"a": 1}, megatron_core="os"), "megatron_config", id="names code to import"
        ),
        pytest.param(settings(target_modules=["nothing"]), "does not fit", id="no such modules"),
        pytest.param(settings(r=8), "does not fit", id="other shapes than it says"),
        pytest.param(weights(lambda all_: dict(list(all_.items())[:-1])), "its files lack", id="a weight is missing"),
        pytest.param(
            weights(lambda all_: {**all_, "base_model.model.x.lora_A.weight": torch.zeros(1)}),
            "no place",
            id="a weight too many",
        ),
        pytest.param(
            lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"x" * 64),
            "does not fit",
            id="no safetensors",
        ),
        pytest.param(
            lambda folder: (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin"),
            "must contain adapter_model.safetensors",
            id="a pickle",
        ),
    ],
)
def test_a_bad_adapter_is_refused_and_the_others_answer_as_before(
    change: Change, words: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    model = load_generation_model(folders["base"], max_length=64)
    model.adapters.load("good", folders["tone-v1"])
    ids = torch.tensor([[5, 6, 7], [5, 6, 7]])

    def answers() -> Any:
        model.adapters.choose_for_rows(["good", "__base__"])
        with torch.inference_mode():
            return model.module(ids).logits

    before = answers()
    bad = Path(shutil.copytree(folders["tone-v2"], tmp_path / "bad"))
    change(bad)
    with pytest.raises(TrainerError, match=words) as raised:
        model.adapters.load("bad", bad)
    assert raised.value.reason is TrainerReason.MODEL_INVALID
    assert model.adapters.loaded == ("good",)
    assert torch.equal(answers(), before)
    assert not torch.allclose(before[0], before[1])


def test_adapters_of_different_modules_come_and_go(folders: dict[str, Path], tmp_path: Path) -> None:
    small = serving.save_adapter(
        tmp_path / "small", folders["base"], seed=5, target_modules=["q_proj"], modules_to_save=["lm_head"]
    )
    model = load_generation_model(folders["base"], max_length=64)
    ids = torch.tensor([[5, 6, 7]])

    def answer(key: str) -> Any:
        model.adapters.choose_for_rows([key])
        with torch.inference_mode():
            return model.module(ids).logits

    base = answer("__base__")
    model.adapters.load("all", folders["tone-v1"])
    first = answer("all")
    model.adapters.load("small", small)
    second = answer("small")
    assert torch.equal(answer("all"), first)
    assert torch.equal(answer("__base__"), base)
    model.adapters.unload("all")
    assert torch.equal(answer("small"), second)
    model.adapters.unload("small")
    assert model.adapters.loaded == ()
    assert torch.equal(answer("__base__"), base)
    model.adapters.load("all", folders["tone-v1"])
    assert torch.equal(answer("all"), first)


@pytest.mark.parametrize("window", [4, 64])
def test_a_sliding_window_is_kept_by_every_row(window: int) -> None:
    torch.manual_seed(0)
    config = MistralConfig(vocab_size=64, num_key_value_heads=2, sliding_window=window, **serving.SHAPE)
    try_rows(MistralForCausalLM(config).eval())


def test_a_model_whose_batches_would_differ_is_refused() -> None:
    torch.manual_seed(0)
    # Not a decoder: every token sees the ones after it.
    model = BertLMHeadModel(BertConfig(vocab_size=64, is_decoder=False, initializer_range=0.4, **serving.SHAPE)).eval()
    with pytest.raises((TrainerError, TypeError, AttributeError)):
        try_rows(model)


def test_a_model_with_missing_weights_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    broken = Path(shutil.copytree(folders["base"], tmp_path / "broken"))
    tensors = load_file(broken / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, broken / "model.safetensors", {"format": "pt"})
    with pytest.raises(TrainerError, match=r"lack 1 weights, among them model\.layers\.1"):
        load_generation_model(broken, max_length=64)
