"""Tao: which answers are learned, and that they are learned by plain cross-entropy."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.support.rows import prompts, write_jsonl
from tests.support.tiny_models import write_tiny_llama
from tests.support.training import make_job

from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.data.formats import read_examples
from trimtab_trainer.data.splits import encode_split
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.interruption import Interruption
from trimtab_trainer.model import TrainableModel, load_model, prepare
from trimtab_trainer.objectives.registry import definition_of
from trimtab_trainer.objectives.sampling import sequence_of
from trimtab_trainer.objectives.tao import BestOfSamples, packed, unpacked
from trimtab_trainer.tasks.task import Round

STEPS = 6


def make_config(**settings: Any) -> RunConfig:
    rewards = [{"regularExpression": {"pattern": "[a-m]"}}, {"length": {"maximumTokens": 2, "toleranceTokens": 4}}]
    known = {"rewards": rewards, "samplesPerPrompt": 6, "sampling": {"maxNewTokens": 5}, "rounds": 2}
    return make_job(objective={"tao": {**known, **settings}}, method={"full": {}})


def make(config: RunConfig, directory: Path) -> tuple[TrainableModel, BestOfSamples, list[Any]]:
    torch.set_num_threads(1)
    definition = definition_of(config)
    rows = write_jsonl(directory / "rows.jsonl", prompts(4))
    llama = write_tiny_llama(directory / "llama")
    processor = definition.load_processor(llama)
    examples = read_examples([("rows.jsonl", rows)], config.data.train[0], allowed=definition.formats)
    split = encode_split("train", examples, definition.encoder(config, llama, processor, ()).encode)
    module, _ = load_model(
        config, llama, auto_model=definition.auto_model, arguments={}, has_new_head=False, tokenizer=processor
    )
    model = prepare(module, tokenizer=processor, device=torch.device("cpu"), precision=torch.float32, labels=())
    task, _ = definition.make(config, model, split.encoded)
    assert isinstance(task, BestOfSamples)
    return model, task, list(split.encoded)


def at(step: int, examples: list[Any], stop: Callable[[], bool] = lambda: False) -> Round:
    """Each step has two of the four prompts."""
    rows = [(0, 1), (2, 3)]
    return Round(step, STEPS, examples, lambda which: rows[which % 2], 2048, 0, 1, stop)


def test_the_best_answers_of_a_round_are_learned_by_cross_entropy(tmp_path: Path) -> None:
    model, task, asked = make(make_config(keepBest=2), tmp_path)
    sums = task.begin_step(model, at(0, asked))
    assert (sums["samples"], sums["groups"], sums["kept"]) == (24, 4, 8)
    assert sums["kept_reward"] / sums["kept"] > sums["reward"] / sums["samples"]
    chosen = unpacked(task.memory)
    for answers in chosen.values():
        assert answers[0][1] >= answers[1][1]
        assert not np.array_equal(answers[0][0], answers[1][0])
    loss = task.loss(model, task.collate(asked[:3]))
    model.base.set_attn_implementation("sdpa")
    model.module.eval()
    expected = 0.0
    for index in range(3):
        for ids, _ in chosen[index]:
            whole = torch.from_numpy(sequence_of(asked[index], ids).ids).long()
            logits = model.module(whole[None]).logits[0, asked[index].length - 1 : -1]
            expected += float(torch.nn.functional.cross_entropy(logits, whole[asked[index].length :])) / 2
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-4)


def test_answers_are_drawn_anew_when_a_round_begins_and_only_then(tmp_path: Path) -> None:
    model, task, asked = make(make_config(), tmp_path)
    memory = task.memory
    task.begin_step(model, at(0, asked))
    first = {name: tensor.clone() for name, tensor in memory.items()}
    for step in (0, 1, 2):
        assert task.begin_step(model, at(step, asked)) == {}
    assert task.begin_step(model, at(3, asked))["samples"] == 24
    assert int(memory["round"][0]) == 1
    assert not torch.equal(memory["ids"], first["ids"])

    memory.clear()  # as after a crash: the same weights draw the same answers
    task.begin_step(model, at(1, asked))
    assert all(torch.equal(memory[name], tensor) for name, tensor in first.items())


def test_a_stop_while_answers_are_drawn_changes_nothing(tmp_path: Path) -> None:
    model, task, asked = make(make_config(), tmp_path)
    with pytest.raises(Interruption):
        task.begin_step(model, at(0, asked, stop=lambda: True))
    assert task.memory == {}


def test_answers_that_are_not_good_enough_are_not_learned(tmp_path: Path) -> None:
    model, task, asked = make(make_config(), tmp_path)
    task.begin_step(model, at(0, asked))
    best = sorted(answers[0][1] for answers in unpacked(task.memory).values())
    assert best[0] < best[-1]
    task.tao = task.tao.model_copy(update={"minimum_reward": best[-1]})
    task.memory.clear()
    task.begin_step(model, at(0, asked))
    chosen = unpacked(task.memory)
    assert 0 < len(chosen) < 4
    without = next(index for index in range(4) if index not in chosen)
    loss = task.loss(model, task.collate([asked[without]]))
    loss.backward()
    assert float(loss.detach()) == 0

    model, task, asked = make(make_config(minimumReward=3), tmp_path)
    with pytest.raises(TrainerError, match="No answer of round 1 has a reward of at least"):
        task.begin_step(model, at(0, asked))


def test_a_rounds_answers_survive_as_tensors() -> None:
    chosen = {3: [(np.asarray([5, 6, 7], np.int32), 0.1)], 1: [(np.asarray([8], np.int32), 1.0)]}
    found = unpacked(packed(chosen, 4))
    assert found.keys() == chosen.keys()
    for index, answers in chosen.items():
        assert [(ids.tolist(), reward) for ids, reward in found[index]] == [(ids.tolist(), r) for ids, r in answers]
