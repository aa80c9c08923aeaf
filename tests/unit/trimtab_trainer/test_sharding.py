"""Which runs spread their weights, and the second set of modules that is whole at times; two processes: tests/integration."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.tiny_models import write_tiny_llama
from tests.support.training import make_job
from transformers import AutoModelForCausalLM

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.memory import Machine, estimate_memory
from trimtab_trainer.model_facts import ModelFacts, read_model_facts
from trimtab_trainer.preflight import check_config
from trimtab_trainer.sharding import gathered_parameters, hollow, layers_of, shard_count

FULL: dict[str, Any] = {"method": {"full": {}}}
FACTS = ModelFacts({}, {"model.layers.0.up.weight": (4, 2)})
SINGLE_NUMBER = ModelFacts({}, {"model.layers.0.up.weight": (4, 2), "logit_scale": ()})


def asking(*, spread: bool) -> dict[str, Any]:
    return {"training": {"extraArguments": {"shardWeights": spread}}}


@pytest.mark.parametrize(
    ("changes", "device", "facts", "expected"),
    [
        pytest.param(FULL, "cuda", FACTS, 8, id="full, on accelerators"),
        pytest.param({"method": {"partial": {"lastLayers": 1}}}, "cuda", FACTS, 8, id="partial"),
        pytest.param(FULL, "cpu", FACTS, 1, id="full, on CPUs"),
        pytest.param({**FULL, **asking(spread=True)}, "cpu", FACTS, 8, id="full, on CPUs, asked for"),
        pytest.param({**FULL, **asking(spread=False)}, "cuda", FACTS, 1, id="full, on accelerators, not wanted"),
        pytest.param({}, "cuda", FACTS, 1, id="an adapter"),
        pytest.param({**FULL, "objective": {"dpo": {}}}, "cuda", FACTS, 1, id="an objective with a reference"),
        pytest.param({**FULL, "task": {"imageClassification": {}}}, "cuda", FACTS, 1, id="another task"),
        pytest.param(FULL, "cuda", SINGLE_NUMBER, 1, id="a weight without a dimension"),
    ],
)
def test_what_is_spread_follows_from_the_job(
    changes: dict[str, Any], device: str, facts: ModelFacts, expected: int
) -> None:
    assert shard_count(make_job(**changes), facts, device_type=device, world_size=8) == expected
    assert shard_count(make_job(**changes), facts, device_type=device, world_size=1) == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param(
            {}, r"`method.lora` keeps all weights on every process; only full, partial spread them", id="method"
        ),
        pytest.param({**FULL, "objective": {"dpo": {}}}, "`objective.dpo` keeps all weights", id="objective"),
    ],
)
def test_what_cannot_be_spread_is_not_asked_to_be(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(TrainerError, match=words) as caught:
        check_config(make_job(**changes, **asking(spread=True)), world_size=2)
    assert caught.value.reason is TrainerReason.CONFIG_INVALID


def test_a_share_of_the_state_takes_a_share_of_the_memory(tmp_path: Path) -> None:
    facts = read_model_facts(write_tiny_llama(tmp_path))
    alone, shared = (
        estimate_memory(make_job(**FULL), facts, tokens=1, bytes_per_value=4, machine=Machine("cuda", shards))
        for shards in (1, 8)
    )
    assert shared.weights == alone.weights // 8
    assert shared.training_state == alone.training_state // 8
    # Weights that are whole for a while are counted, and their casts.
    assert shared.activations >= alone.weights
    halves = estimate_memory(make_job(**FULL), facts, tokens=4096, bytes_per_value=2, machine=Machine("cuda", 8))
    apart = estimate_memory(make_job(**FULL), facts, tokens=4096, bytes_per_value=2, machine=Machine("cuda"))
    assert halves.activations - apart.activations == 2 * facts.parameters + 8 * gathered_parameters(facts)
    outside = 258 * 32 + 32
    assert gathered_parameters(facts) == outside + (facts.parameters - outside)  # both of its two layers


def test_the_second_set_of_modules_has_no_memory_and_shares_the_rest(tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(write_tiny_llama(tmp_path))
    counter: list[int] = []
    model.model.embed_tokens.register_forward_hook(lambda *_: counter.append(1))
    empty = hollow(model)
    assert [name for name, _ in empty.named_parameters()] == [name for name, _ in model.named_parameters()]
    assert sum(parameter.numel() for parameter in empty.parameters()) == 0
    assert empty.config is model.config
    assert all(mine is its for mine, its in zip(empty.buffers(), model.buffers(), strict=True))
    for target, parameter in zip(empty.parameters(), model.parameters(), strict=True):
        target.data = parameter.detach()
    ids = torch.arange(6)[None]
    assert torch.equal(empty(ids).logits, model(ids).logits)  # embeddings and head are one tensor there, too
    assert len(list(layers_of(model))) == 2
