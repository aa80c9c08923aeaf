"""Activations that are computed again: the same run to the last digit, and far fewer bytes kept."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.memory_storage import MemoryStorage
from tests.support.methods import make_model
from tests.support.tiny_models import write_tiny_llama
from tests.support.training import make_job, run_job
from torch import Tensor

from trimtab_trainer.contract.exit_codes import ExitCode
from trimtab_trainer.model import TrainableModel
from trimtab_trainer.practices.recomputation import recompute_activations

FILES = ("train", "validation", "test")


def on(data: str, model: str, **changes: Any) -> dict[str, Any]:
    sources = {split: [{"uri": f"s3://data/{split}-{data}.jsonl"}] for split in FILES}
    return {"model": {"uri": f"s3://models/{model}"}, "data": {**sources, "maxSequenceLength": 64}, **changes}


CLASSIFY = on("labelled", "bert", task={"sequenceClassification": {}})
RUNS = [
    pytest.param({"method": {"lora": {"r": 4, "dropout": 0.2}}}, id="lora with dropout, packed"),
    pytest.param({"method": {"full": {}}, "data": {"packing": False}}, id="full, padded"),
    pytest.param({"method": {"qlora": {"r": 2}}}, id="qlora"),
    pytest.param({"method": {"reft": {"r": 2, "dropout": 0.1}}}, id="LoReFT"),
    pytest.param({"method": {"adapter": {"placement": "houlsby", "dropout": 0.1}}}, id="bottlenecks"),
    pytest.param({"method": {"partial": {"lastLayers": 1}}}, id="the last layer"),
    pytest.param(
        {"method": {"prefixTuning": {"kind": "prompt", "virtualTokens": 2}}, "data": {"packing": False}}, id="prompt"
    ),
    pytest.param({**CLASSIFY, "method": {"full": {}}, "training": {"dropout": 0.2}}, id="a classifier with dropout"),
    pytest.param(
        {**CLASSIFY, "method": {"full": {}}, "training": {"adversarial": {"freeLb": {"steps": 2}}}}, id="FreeLB"
    ),
    pytest.param(
        on("images", "vit", task={"imageClassification": {}}, method={"lora": {"r": 2}}), id="images"
    ),
    pytest.param(on("preferences", "llama", objective={"dpo": {}}), id="DPO"),
    pytest.param(
        on(
            "prompts",
            "llama",
            objective={
                "grpo": {
                    "rewards": [{"regularExpression": {"pattern": "[aeiou]"}}],
                    "samplesPerPrompt": 2,
                    "sampling": {"maxNewTokens": 4},
                }
            },
        ),
        id="GRPO",
    ),
]  # fmt: skip


@pytest.mark.parametrize("changes", RUNS)
def test_a_run_is_the_same_with_and_without(
    changes: dict[str, Any], media_storage: MemoryStorage, tmp_path: Path
) -> None:
    found = []
    for recompute in (False, True):
        media_storage.checkpoints.clear()
        training = {**changes.get("training", {}), "recomputeActivations": recompute, "maxSteps": 3}
        ended = run_job(make_job(**{**changes, "training": training}), tmp_path / str(recompute))
        assert ended.code == ExitCode.SUCCEEDED, ended.message.message
        told = [warning for warning in ended.report.warnings if "a CPU is faster without it" in warning]
        assert len(told) == recompute
        found.append((media_storage.history, media_storage.checkpoints[3][1]))
    assert found[0] == found[1]


def kept_bytes(model: TrainableModel) -> int:
    """What autograd keeps of one forward pass, each storage once."""
    storages: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    model.module.train()
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.module.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model.module(input_ids=torch.arange(200)[None] % 250, use_cache=False).logits.sum()
    kept = sum(size for pointer, size in storages.items() if pointer not in weights)
    loss.backward()
    return kept


def test_only_what_goes_into_each_layer_is_kept(tmp_path: Path) -> None:
    directory = write_tiny_llama(tmp_path, num_hidden_layers=12, vocab_size=258)
    model = make_model(make_job(method={"full": {}}), directory)
    whole = kept_bytes(model)
    recompute_activations(model)
    assert kept_bytes(model) < whole / 4


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({"method": {"headOnly": {}}}, "no gradient goes through them", id="headOnly"),
        pytest.param(
            {"method": {"prefixTuning": {"virtualTokens": 2}}, "data": {"packing": False}},
            "stands in a cache of keys and values",
            id="prefixes",
        ),
        pytest.param(
            on("images", "resnet", task={"imageClassification": {}}, method={"full": {}}),
            "needs an architecture whose layers can be computed again",
            id="convolutions",
        ),
    ],
)
def test_where_nothing_can_be_computed_again_it_is_refused(
    changes: dict[str, Any], words: str, media_storage: MemoryStorage, tmp_path: Path
) -> None:
    ended = run_job(make_job(**changes, training={"recomputeActivations": True}), tmp_path / "run")
    assert ended.code == ExitCode.CONFIG_INVALID
    assert words in ended.message.message
