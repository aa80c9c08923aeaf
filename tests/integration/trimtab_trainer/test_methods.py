"""Every method on a tiny model: how many weights move, that no other does, and that a resumed run equals an uninterrupted one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load
from tests.support.memory_storage import MemoryStorage
from tests.support.methods import make_model, train_steps
from tests.support.tiny_models import write_tiny_bert, write_tiny_llama
from tests.support.training import CountedStop, Killed, make_job, run_job
from transformers import AutoModel

from trimtab_trainer.contract.exit_codes import ExitCode
from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.methods.registry import METHODS, method_of
from trimtab_trainer.model import TrainableModel
from trimtab_trainer.model_facts import read_model_facts

CLASSIFY: dict[str, Any] = {"task": {"sequenceClassification": {"labels": ["no", "yes"]}}}


@dataclass(frozen=True)
class Case:
    """A method, and what must be true of it on the tiny Llama."""

    method: dict[str, Any]
    moves: tuple[str, ...] = ()
    """Parts of the names of the base model's weights that move; all others stay."""
    training: tuple[tuple[str, Any], ...] = ()


CASES = {
    "lora": Case({"lora": {"r": 4, "dropout": 0.2}}),
    "rsLoRA with patterns": Case(
        {"lora": {"r": 4, "useRslora": True, "rankPattern": {"q_proj": 2, r"layers\.1\..*": 3}, "alphaPattern": {"v_proj": 8}}}
    ),
    "DoRA": Case({"lora": {"r": 2, "useDora": True}}),
    "lora by pattern": Case({"lora": {"targetPattern": r".*layers\.[12]\.self_attn\.[qv]_proj", "initialization": "gaussian"}}),
    "orthogonal lora": Case({"lora": {"r": 2, "targetModules": ["down_proj"], "initialization": "orthogonal"}}),
    "full": Case({"full": {}}, moves=("",)),
    "full, layer-wise rates": Case({"full": {}}, moves=("",), training=(("layerwiseLearningRateDecay", 0.5),)),
    "full, unfrozen step by step": Case(
        {"full": {}}, moves=("",), training=(("gradualUnfreezing", {"everySteps": 2}), ("weightDecay", 0.1))
    ),
    "last layer": Case({"partial": {"lastLayers": 1}}, moves=("layers.2.", "model.norm")),
    "embeddings": Case({"partial": {"embeddings": True}}, moves=("embed_tokens", "lm_head")),
    "qlora": Case({"qlora": {"r": 4, "doubleQuantization": True}}),
    "houlsby": Case({"adapter": {"placement": "houlsby", "bottleneckSize": 6, "activation": "gelu", "dropout": 0.1}}),
    "pfeiffer": Case({"adapter": {"reductionFactor": 4}}, training=(("layerwiseLearningRateDecay", 0.9),)),
    "prefix": Case({"prefixTuning": {"virtualTokens": 3}}),
    "prompt": Case({"prefixTuning": {"virtualTokens": 3, "kind": "prompt"}}),
    "loreft": Case({"reft": {"r": 3}}, training=(("weightDecay", 0.1), ("gradualUnfreezing", {"everySteps": 2}))),
    "loreft in one layer": Case({"reft": {"r": 2, "layers": [1], "dropout": 0.1}}),
    "patterns": Case({"partial": {"patterns": [r".*norm\.weight"]}}, moves=("norm",)),
}  # fmt: skip
RESUMED = [
    "rsLoRA with patterns",
    "DoRA",
    "full, layer-wise rates",
    "full, unfrozen step by step",
    "last layer",
    "houlsby",
    "prefix",
    "prompt",
    "loreft",
    "qlora",
]
"""lora, full and headOnly are in test_run.py."""
ALL = [pytest.param(case, id=name) for name, case in CASES.items()]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("llama"), num_hidden_layers=3)


def job(case: Case, **changes: Any) -> RunConfig:
    data = {"packing": "prefixTuning" not in case.method}
    return make_job(**{"method": case.method, "training": dict(case.training), "data": data, **changes})


def base_weights(model: TrainableModel) -> dict[str, torch.Tensor]:
    """The base model's own weights by the names that they have in its files."""
    found = {}
    for name, tensor in model.module.state_dict().items():
        plain = name.removeprefix("base_model.model.").replace(".base_layer", "")
        if not any(word in plain for word in ("lora_", "modules_to_save", "prompt_encoder", "trimtab_")):
            found[plain.replace(".original_module", "")] = tensor.detach().clone()
    return found


def test_every_method_is_in_the_table() -> None:
    # headOnly of a language model is tested with its own head in test_run.py
    assert {next(iter(case.method)) for case in CASES.values()} | {"headOnly"} == set(METHODS)


@pytest.mark.parametrize("case", ALL)
def test_the_formula_counts_what_moves(case: Case, llama: Path) -> None:
    config = job(case)
    model = make_model(config, llama)
    counted = sum(parameter.numel() for parameter in model.trainable.values())
    assert method_of(config).trained_parameters(config, read_model_facts(llama)) == counted > 0


@pytest.mark.parametrize("case", ALL)
def test_frozen_weights_are_bit_identical_and_the_others_move(case: Case, llama: Path) -> None:
    config = job(case)
    model = make_model(config, llama)
    before, moving_before = base_weights(model), model.copy_of_trainable()
    losses = train_steps(model, config)
    assert losses[-1] < losses[0]
    for name, tensor in base_weights(model).items():
        assert torch.equal(tensor, before[name]) != any(word in name for word in case.moves), name
    assert sum(not torch.equal(model.trainable[name], tensor) for name, tensor in moving_before.items()) > 0


@pytest.mark.parametrize(
    "method",
    [
        {"lora": {"r": 2}},
        {"lora": {"r": 2, "useDora": True}},
        {"full": {}},
        {"partial": {"lastLayers": 1}},
        {"headOnly": {}},
        {"adapter": {"placement": "houlsby"}},
        {"reft": {}},
        {"prefixTuning": {"virtualTokens": 2}},
        {"prefixTuning": {"virtualTokens": 2, "kind": "prompt"}},
        {"qlora": {}},
    ],
    ids=str,
)
def test_a_new_head_is_trained(method: dict[str, Any], tmp_path: Path) -> None:
    directory = write_tiny_bert(tmp_path)
    if "prefixTuning" in method:  # saves new heads, but no other new layers such as a pooler
        AutoModel.from_pretrained(directory).save_pretrained(directory)
    model = make_model(make_job(method=method, data={"maxSequenceLength": 64}, **CLASSIFY), directory)
    before = {name: value.detach().clone() for name, value in model.trainable.items() if "classifier" in name}
    train_steps(model, make_job(method=method, **CLASSIFY))
    assert all(not torch.equal(model.trainable[name], value) for name, value in before.items())
    assert {name.rpartition(".")[2] for name in model.trainable if "classifier" in name} == {"weight", "bias"}


@pytest.mark.parametrize("case", [pytest.param(CASES[name], id=name) for name in RESUMED])
def test_a_killed_run_resumes_exactly(
    case: Case, job_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("models", "data"):
        (tmp_path / name).symlink_to(job_files / name)
    storage = MemoryStorage(tmp_path)
    storage.install(monkeypatch)
    config = job(case, data={"test": [], "packing": "prefixTuning" not in case.method})
    stop = CountedStop()
    whole = run_job(config, tmp_path / "whole", stop=stop)
    assert whole.code == ExitCode.SUCCEEDED, whole.message.message
    history, state = storage.history, storage.checkpoints[6]
    storage.checkpoints.clear()
    with pytest.raises(Killed):
        run_job(config, tmp_path / "killed", stop=CountedStop(kill_at=stop.looks * 2 // 3))
    assert 0 < max(storage.checkpoints) < 6
    assert run_job(config, tmp_path / "resumed").code == ExitCode.SUCCEEDED
    assert storage.history == history
    expected, found = load(state[1]), load(storage.checkpoints[6][1])
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize(
    ("method", "words"),
    [
        pytest.param({"partial": {"lastLayers": 4}}, "more than the model's 3 layers", id="too many layers"),
        pytest.param({"partial": {"patterns": ["bias"]}}, "patterns: bias` matches no parameter", id="no such parameter"),
        pytest.param({"partial": {"patterns": ["("]}}, "must be regular expressions; '\\(' is none", id="no expression"),
        pytest.param({"lora": {"targetPattern": "x"}}, "targetPattern: x` matches no layer", id="a pattern of nothing"),
        pytest.param({"lora": {"targetPattern": "("}}, "must be regular expressions", id="a broken pattern"),
        pytest.param({"lora": {"rankPattern": {"query": 2}}}, "rankPattern: query` matches no layer", id="ranks of nothing"),
        pytest.param(
            {"lora": {"targetModules": ["q_proj"], "alphaPattern": {"up_proj": 2}}},
            "alphaPattern: up_proj` matches no layer",
            id="alphas of layers without adapter",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_model_is_refused(method: dict[str, Any], words: str, llama: Path) -> None:
    with pytest.raises(TrainerError, match=words):
        make_model(make_job(method=method), llama)
