"""Grpo and rloo on a model: what is trained is what was drawn, and the reference gives the weights back."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.rows import prompts, write_jsonl
from tests.support.tiny_models import write_tiny_llama
from tests.support.training import make_job
from torch import Tensor

from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.data.formats import read_examples
from trimtab_trainer.data.prompt_encoding import EncodedPrompt
from trimtab_trainer.data.splits import Split, encode_split
from trimtab_trainer.methods.registry import method_of
from trimtab_trainer.model import TrainableModel, load_model, prepare
from trimtab_trainer.objectives.policy import PolicyOptimization
from trimtab_trainer.objectives.registry import definition_of
from trimtab_trainer.objectives.sampling import Sampled

REWARDS: list[dict[str, Any]] = [
    {"regularExpression": {"pattern": "[a-m]"}},
    {"length": {"maximumTokens": 4, "weight": 0.5}},
]
COUNT, BETA, TEMPERATURE, LONGEST = 4, 0.3, 0.8, 5


def make_config(name: str, method: dict[str, Any]) -> RunConfig:
    objective = {
        "rewards": REWARDS,
        "samplesPerPrompt": COUNT,
        "beta": BETA,
        "sampling": {"maxNewTokens": LONGEST, "temperature": TEMPERATURE},
    }
    return make_job(objective={name: objective}, method=method)


def make(config: RunConfig, directory: Path) -> tuple[TrainableModel, PolicyOptimization, Split]:
    definition = definition_of(config)
    rows = write_jsonl(directory / "rows.jsonl", prompts(3))
    llama = write_tiny_llama(directory / "llama")
    processor = definition.load_processor(llama)
    examples = read_examples([("rows.jsonl", rows)], config.data.train[0], allowed=definition.formats)
    split = encode_split("train", examples, definition.encoder(config, llama, processor, ()).encode)
    loaded, _ = load_model(
        config, llama, auto_model=definition.auto_model, arguments={}, has_new_head=False, tokenizer=processor
    )
    module = method_of(config).apply(config, loaded, [], None)
    model = prepare(module, tokenizer=processor, device=torch.device("cpu"), precision=torch.float32, labels=())
    task, _ = definition.make(config, model, split.encoded)
    assert isinstance(task, PolicyOptimization)
    return model, task, split


def log_probabilities(model: TrainableModel, one: Sampled) -> Tensor:
    """[tokens of the answer], from the full logits of transformers at the temperature."""
    ids = torch.from_numpy(one.sequence.ids).long()
    logits = model.module(input_ids=ids[None], attention_mask=torch.ones_like(ids)[None], use_cache=False).logits
    by_token = (logits[0, -len(ids) : -1] / TEMPERATURE).log_softmax(-1).gather(1, ids[1:, None])[:, 0]
    return by_token[one.prompt.length - 1 :]


def plain(name: str, new: list[Tensor], old: list[Tensor], rewards: list[float]) -> Tensor:
    """One prompt's mean loss over its answers; RLOO by its gradient alone."""
    total = torch.zeros(())
    for number, by_token in enumerate(new):
        if name == "grpo":
            difference = old[number] - by_token
            kl = torch.exp(difference) - difference - 1
            advantage = rewards[number] - sum(rewards) / COUNT
            total = total + (-advantage * by_token + BETA * kl).sum() / LONGEST / COUNT
            continue
        worth = [rewards[one] - BETA * float((new[one] - old[one]).sum()) for one in range(COUNT)]
        advantage = worth[number] - (sum(worth) - worth[number]) / (COUNT - 1)
        total = total - advantage * by_token.sum() / COUNT
    return total


@pytest.mark.parametrize("name", ["grpo", "rloo"])
@pytest.mark.parametrize("method", [{"full": {}}, {"lora": {"r": 4}}, {"prefixTuning": {"virtualTokens": 3}}], ids=str)
def test_gradients_are_those_of_the_answers_that_were_drawn(name: str, method: dict[str, Any], tmp_path: Path) -> None:
    torch.set_num_threads(1)
    model, task, split = make(make_config(name, method), tmp_path)
    asked = [one for one in split.encoded if isinstance(one, EncodedPrompt)]
    start = model.copy_of_trainable()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():  # as if some steps had been trained
        for parameter in model.trainable.values():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    moved = model.copy_of_trainable()
    frozen = {key: value.clone() for key, value in model.module.named_parameters() if key not in model.trainable}
    model.module.eval()
    torch.manual_seed(11)
    task.loss(model, task.collate(split.encoded)).backward()
    found = {key: value.grad.clone() for key, value in model.trainable.items() if value.grad is not None}
    assert all(torch.equal(value, moved[key]) for key, value in model.trainable.items())
    assert all(torch.equal(value, frozen[key]) for key, value in model.module.named_parameters() if key in frozen)

    torch.manual_seed(11)
    drawn = task.sampler.draw(model, asked, count=COUNT)
    rewards = [one.total for one in task.scorer.score([one.answer for one in drawn])]
    model.base.set_attn_implementation("sdpa")
    model.load_trainable(start)
    with torch.no_grad():
        old = [log_probabilities(model, one) for one in drawn]
    model.load_trainable(moved)
    model.module.zero_grad()
    expected, divergence = torch.zeros(()), 0.0
    for place in range(0, len(drawn), COUNT):
        group = slice(place, place + COUNT)
        new = [log_probabilities(model, one) for one in drawn[group]]
        expected = expected + plain(name, new, old[group], rewards[group])
        divergence += sum(float((torch.exp(b - a) - (b - a) - 1).sum()) for a, b in zip(new, old[group], strict=True))
    expected.backward()
    for key, value in model.trainable.items():
        if value.grad is not None:
            torch.testing.assert_close(found[key], value.grad, rtol=2e-3, atol=1e-5, msg=key)
    assert found.keys() == {key for key, value in model.trainable.items() if value.grad is not None}
    told = task.tell(task.take_sums())
    assert told["samples"] == len(drawn)
    assert told["reward"] == pytest.approx(sum(rewards) / len(rewards))
    assert told["kl"] == pytest.approx(divergence / len(drawn), rel=1e-3)
    groups = [rewards[place : place + COUNT] for place in range(0, len(drawn), COUNT)]
    assert told["groups_without_contrast"] == sum(len(set(one)) == 1 for one in groups) / len(groups)
    assert task.tell(task.take_sums()) == {}


def test_held_out_prompts_are_measured_the_same_each_time(tmp_path: Path) -> None:
    model, task, split = make(make_config("grpo", {"full": {}}), tmp_path)
    batch = task.collate(split.encoded)
    torch.manual_seed(1)
    first = task.measure(model, batch)
    torch.manual_seed(2)
    assert task.measure(model, batch) == first
    metrics = task.metrics(first)
    assert metrics["loss"] == -metrics["reward"]
    assert metrics["kl"] == 0
    assert metrics["reward"] == pytest.approx(metrics["reward_regular_expression"] + 0.5 * metrics["reward_length"])
