"""Adapters: they begin as the base model, load with the libraries of their users, and hold what their papers promise."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from tests.support.methods import IDS, make_model, train_steps
from tests.support.tiny_models import write_tiny_bert, write_tiny_llama
from tests.support.training import make_job
from transformers import (
    AutoModelForCausalLM,
    CLIPConfig,
    CLIPModel,
    ResNetConfig,
    ResNetModel,
    Wav2Vec2Config,
    Wav2Vec2ForCTC,
    YolosConfig,
    YolosForObjectDetection,
)
from transformers.models.clip.modeling_clip import CLIPEncoderLayer
from transformers.models.wav2vec2.modeling_wav2vec2 import Wav2Vec2EncoderLayer
from transformers.models.yolos.modeling_yolos import YolosLayer

from trimtab_trainer.contract.methods import Reft
from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.methods.loreft import MODULE, Intervention, add_interventions
from trimtab_trainer.methods.own_adapters import SETTINGS_FILE, WEIGHTS_FILE, load_adapter
from trimtab_trainer.methods.registry import method_of
from trimtab_trainer.model_facts import read_model_facts
from trimtab_trainer.objectives.registry import definition_of
from trimtab_trainer.publishing.export import export_format, export_model, loading_code
from trimtab_trainer.publishing.merge import merge_adapter

ADAPTERS: dict[str, dict[str, Any]] = {
    "lora": {"lora": {"r": 4}},
    "DoRA with ranks": {"lora": {"r": 4, "useDora": True, "useRslora": True, "rankPattern": {"q_proj": 2}}},
    "orthogonal": {"lora": {"r": 4, "initialization": "orthogonal"}},
    "houlsby": {"adapter": {"placement": "houlsby"}},
    "pfeiffer": {"adapter": {"bottleneckSize": 5, "activation": "silu"}},
    "loreft": {"reft": {"r": 3, "layers": [0, 2]}},
    "prefix": {"prefixTuning": {"virtualTokens": 3}},
    "prompt": {"prefixTuning": {"virtualTokens": 3, "kind": "prompt"}},
}
ALL = [pytest.param(method, id=name) for name, method in ADAPTERS.items()]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("llama"), num_hidden_layers=3)


def job(method: dict[str, Any], **training: Any) -> RunConfig:
    return make_job(method=method, data={"packing": "prefixTuning" not in method}, training=training)


def logits_of(module: Any) -> torch.Tensor:
    module.eval()
    with torch.no_grad():
        logits: torch.Tensor = module(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits[:, -IDS.shape[1] :]
    return logits


@pytest.mark.parametrize("method", ALL)
def test_before_the_first_step_it_is_the_base_model(method: dict[str, Any], llama: Path) -> None:
    model = make_model(job(method), llama)
    with model.untouched():
        torch.testing.assert_close(logits_of(model.module), logits_of(AutoModelForCausalLM.from_pretrained(llama)))


@pytest.mark.parametrize("kind", ["prefix", "prompt"])
@pytest.mark.parametrize("task", ["tokenClassification", "questionAnswering"])
def test_before_virtual_tokens_there_is_a_base_model_with_a_head(task: str, kind: str, tmp_path: Path) -> None:
    method = {"prefixTuning": {"virtualTokens": 3, "kind": kind}}
    config = make_job(method=method, task={task: {}}, data={"maxSequenceLength": 64})
    model, mask = make_model(config, write_tiny_bert(tmp_path)), torch.ones_like(IDS)
    model.module.eval()
    before = model.module(input_ids=IDS, attention_mask=mask)[0]
    with model.untouched():
        bare = model.module(input_ids=IDS, attention_mask=mask)[0]
    torch.testing.assert_close(bare, model.base(input_ids=IDS, attention_mask=mask)[0])
    assert not torch.equal(bare, before[:, -IDS.shape[1] :])
    assert torch.equal(model.module(input_ids=IDS, attention_mask=mask)[0], before)


@pytest.mark.parametrize("method", ALL)
def test_what_is_published_loads_and_gives_the_same_logits(method: dict[str, Any], llama: Path, tmp_path: Path) -> None:
    config = job(method)
    model = make_model(config, llama)
    train_steps(model, config)
    export_model(model, config, tmp_path)
    assert not list(tmp_path.glob("*.bin"))
    base = AutoModelForCausalLM.from_pretrained(llama)
    if export_format(config) == "trimtabAdapter":
        assert "load_adapter(base" in loading_code(config)
        assert json.loads((tmp_path / SETTINGS_FILE).read_text())["baseModel"] == "s3://models/llama"
        loaded = load_adapter(base, tmp_path)
    else:
        assert "PeftModel.from_pretrained(base" in loading_code(config)
        loaded = PeftModel.from_pretrained(base, tmp_path)
    torch.testing.assert_close(logits_of(loaded), logits_of(model.module))


@pytest.mark.parametrize("method", ALL)
def test_training_goes_on_from_what_was_published(method: dict[str, Any], llama: Path, tmp_path: Path) -> None:
    config = job(method)
    model = make_model(config, llama)
    train_steps(model, config)
    export_model(model, config, tmp_path)
    again = make_model(config, llama, adapter=tmp_path)
    assert set(again.trainable) == set(model.trainable)
    assert all(torch.equal(again.trainable[name], value) for name, value in model.trainable.items())


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        pytest.param("loreft", {"reft": {"r": 3}}, "must be that of the version", id="other layers"),
        pytest.param("loreft", {"lora": {}}, "cannot train bottlenecks or LoReFT on", id="LoReFT as LoRA"),
        pytest.param("loreft", {"full": {}}, "cannot be folded into the weights", id="LoReFT in the weights"),
        pytest.param("prefix", {"full": {}}, "cannot be folded into the weights", id="prefixes in the weights"),
        pytest.param("prefix", {"prefixTuning": {"virtualTokens": 4}}, "PREFIX_TUNING of 3 tokens", id="other tokens"),
        pytest.param("prefix", {"lora": {}}, "cannot train a PREFIX_TUNING adapter on", id="prefixes as LoRA"),
        pytest.param("lora", {"adapter": {}}, "cannot train an adapter of peft on", id="LoRA as bottlenecks"),
        pytest.param("lora", {"lora": {"r": 4, "useDora": True}}, "use_dora is False, not True", id="DoRA later"),
    ],
)
def test_a_version_is_not_gone_on_from_as_something_else(
    first: str, second: dict[str, Any], words: str, llama: Path, tmp_path: Path
) -> None:
    config = job(ADAPTERS[first])
    export_model(make_model(config, llama), config, tmp_path)
    with pytest.raises(TrainerError, match=words):
        make_model(job(second), llama, adapter=tmp_path)


@pytest.mark.parametrize("name", ["houlsby", "pfeiffer", "loreft", "DoRA with ranks"])
def test_rows_without_padding_are_the_same(name: str, llama: Path) -> None:
    """The loop calls the trunk by itself for packed rows: what a method adds must be inside of it."""
    config = job(ADAPTERS[name])
    model = make_model(config, llama)
    train_steps(model, config)
    encoder = definition_of(config).encoder(config, llama, model.tokenizer, ())
    from trimtab_trainer.data.formats import Chat, Example  # noqa: PLC0415 - of this test

    chats = [Chat((("user", "hello"), ("assistant", answer))) for answer in ("no", "well, yes")]
    encoded = encoder.encode([Example("", chat) for chat in chats])
    assert definition_of(config).make(config, model, encoded)[1] == ""


def test_the_rotation_of_loreft_stays_orthonormal_under_weight_decay(llama: Path) -> None:
    """torch's orthogonal parametrisation becomes 0 after one such step, and nothing is learnt any more."""
    config = job({"reft": {"r": 3}}, weightDecay=1.0, learningRate=0.05)
    model = make_model(config, llama)
    losses = train_steps(model, config, steps=30)
    assert losses[-1] < losses[0] - 0.3
    for module in model.module.modules():
        if isinstance(module, Intervention):
            torch.testing.assert_close(module.orthonormal().T @ module.orthonormal(), torch.eye(3))
    assert not any(
        any(parameter is model.trainable[name] for parameter in group["params"]) and group["weight_decay"]
        for group in optimizer_groups(model, config)
        for name in model.trainable
        if name.endswith(f"{MODULE}.rotation")
    )


def optimizer_groups(model: Any, config: RunConfig) -> list[dict[str, Any]]:
    from trimtab_trainer.parameter_groups import parameter_groups  # noqa: PLC0415 - of this test

    return parameter_groups(model.trainable, config.training, undecayed=method_of(config).undecayed)


def test_loreft_is_the_papers_formula() -> None:
    torch.manual_seed(3)
    module, states = Intervention(6, 2, dropout=0.0), torch.randn(4, 6)
    torch.nn.init.normal_(module.source.weight)
    torch.nn.init.normal_(module.source.bias)
    rotation, weight, bias = module.orthonormal().T, module.source.weight, module.source.bias
    expected = [h + rotation.T @ (weight @ h + bias - rotation @ h) for h in states]
    torch.testing.assert_close(module(states), torch.stack(expected))


CLIP_TOWERS = CLIPModel(
    CLIPConfig(
        text_config={"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8},
        vision_config={"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32},
    )
)
LISTENER = Wav2Vec2ForCTC(
    Wav2Vec2Config(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8, vocab_size=4)
)
DETECTOR = YolosForObjectDetection(
    YolosConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8, image_size=[32, 32])
)


@pytest.mark.parametrize(
    ("model", "layer", "width"),
    [
        pytest.param(CLIP_TOWERS, CLIPEncoderLayer, 24, id="the deeper of two towers, at its own width"),
        pytest.param(LISTENER, Wav2Vec2EncoderLayer, 16, id="more convolutions below than layers"),
        pytest.param(DETECTOR, YolosLayer, 16, id="a head of more layers than the trunk"),
    ],
)
def test_loreft_sits_in_the_layers(model: Any, layer: type, width: int) -> None:
    add_interventions(model, Reft(r=2))
    places = [part for part in model.modules() if hasattr(part, MODULE)]
    assert [type(part) for part in places] == [layer, layer]
    assert [getattr(part, MODULE).source.in_features for part in places] == [width, width]


def test_stages_of_convolutions_have_no_place_for_loreft() -> None:
    model = ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"))
    with pytest.raises(TrainerError, match=r"needs a model of transformer layers.*use `method\.full`"):
        add_interventions(model, Reft(r=2))


def test_files_that_do_not_fit_are_refused(llama: Path, tmp_path: Path) -> None:
    config = job(ADAPTERS["loreft"])
    export_model(make_model(config, llama), config, tmp_path)
    base = AutoModelForCausalLM.from_pretrained(llama)
    (tmp_path / SETTINGS_FILE).write_text(Reft().model_dump_json())
    with pytest.raises(TrainerError, match="cannot be read"):
        load_adapter(base, tmp_path)
    (tmp_path / SETTINGS_FILE).write_text(json.dumps({"schema": "trimtab.dev/adapter/v1", "reft": {"r": 3}}))
    with pytest.raises(TrainerError, match="does not fit the base model"):
        load_adapter(base, tmp_path)
    (tmp_path / WEIGHTS_FILE).unlink()
    with pytest.raises(TrainerError, match="cannot be read"):
        load_adapter(AutoModelForCausalLM.from_pretrained(llama), tmp_path)


@pytest.mark.parametrize(
    ("method", "words"),
    [
        pytest.param({"reft": {"layers": [3]}}, "must be below 3", id="a layer that is not there"),
        pytest.param({"reft": {"r": 64}}, "not be more than the model's width, 32", id="a rank above the width"),
        pytest.param({"prefixTuning": {"virtualTokens": 400}}, "512 positions together", id="too many tokens"),
    ],
)
def test_what_has_no_place_is_refused(method: dict[str, Any], words: str, llama: Path) -> None:
    with pytest.raises(TrainerError, match=words):
        make_model(job(method), llama)


def test_prefixes_are_refused_in_packed_rows(llama: Path) -> None:
    with pytest.raises(TrainerError, match=r"set `data\.packing: false`"):
        make_model(make_job(method={"prefixTuning": {}}), llama)


def test_prompts_are_refused_where_the_last_token_is_read(llama: Path) -> None:
    config = make_job(
        task={"sequenceClassification": {}},
        method={"prefixTuning": {"virtualTokens": 3, "kind": "prompt"}},
        data={"packing": False},
    )
    with pytest.raises(TrainerError, match="use `kind: prefix`"):
        make_model(config, llama)


def test_four_bits_take_less_memory(tmp_path: Path) -> None:
    directory = write_tiny_llama(tmp_path, hidden_size=64, intermediate_size=256)
    sizes, facts = {}, read_model_facts(directory)
    for kind in ("lora", "qlora"):
        config = make_job(method={kind: {"r": 4}})
        model = make_model(config, directory)
        tensors = {tensor.data_ptr(): tensor for tensor in model.module.state_dict().values()}
        sizes[kind] = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        unpacked = 4 * 64 * 256 * (kind == "qlora")  # the largest matrix, while it is multiplied by
        assert method_of(config).weight_bytes(config, facts, 4) - unpacked == pytest.approx(sizes[kind], rel=0.1)
    assert sizes["qlora"] < 0.5 * sizes["lora"]


@pytest.mark.parametrize("name", ["lora", "DoRA with ranks"])
def test_a_merged_model_is_the_same_function(name: str, llama: Path) -> None:
    config = job(ADAPTERS[name])
    model = make_model(config, llama)
    train_steps(model, config)
    expected = logits_of(model.module)
    merge_adapter(model, lambda: logits_of(model.module))
    assert type(model.module).__name__ == "LlamaForCausalLM"
    torch.testing.assert_close(logits_of(model.module), expected, rtol=1e-4, atol=1e-5)


def test_a_merge_that_changes_the_function_is_not_published(llama: Path) -> None:
    model = make_model(job(ADAPTERS["lora"]), llama)
    answers = iter([torch.ones(3), torch.tensor([1.0, 1.0, 1.01])])
    with pytest.raises(TrainerError, match="nothing is published"):
        merge_adapter(model, lambda: next(answers))
