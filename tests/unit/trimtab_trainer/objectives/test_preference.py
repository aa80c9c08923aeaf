"""Preference losses: equal to the papers' formulas written plainly, with gradients, and however a batch is cut up."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.rows import preferences
from tests.support.tiny_models import byte_tokenizer, write_tiny_llama
from torch import Tensor
from torch.nn.functional import logsigmoid
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from trimtab_trainer.contract.objectives import Dpo
from trimtab_trainer.data.encoded import Encoded, Pair
from trimtab_trainer.data.encoding import TextEncoder
from trimtab_trainer.data.formats import Example
from trimtab_trainer.data.pair_encoding import PairEncoder
from trimtab_trainer.data.prompts import read_preference
from trimtab_trainer.model import TrainableModel
from trimtab_trainer.objectives.preference import PreferenceLoss, PreferenceOptimization, dpo_loss, orpo_loss
from trimtab_trainer.objectives.reference import Reference
from trimtab_trainer.objectives.reward import RewardModeling
from trimtab_trainer.tasks.language_modeling import choose_layout
from trimtab_trainer.tasks.sequence_classification import SequenceClassification

CPU = torch.device("cpu")


def pairs(count: int = 5, max_length: int = 200) -> list[Encoded]:
    names = {role: role for role in ("prompt", "chosen", "rejected")}
    examples = [Example("here", read_preference(row, names)) for row in preferences(count)]
    return PairEncoder(TextEncoder(byte_tokenizer(), max_length, only_last_answer=True)).encode(examples)


def make_model(directory: Path, auto: Any = AutoModelForCausalLM, **arguments: Any) -> TrainableModel:
    torch.manual_seed(3)
    module = auto.from_pretrained(write_tiny_llama(directory), **arguments).eval()
    return TrainableModel(module, byte_tokenizer(), CPU, torch.float32, trainable=dict(module.named_parameters()))


def drift(model: TrainableModel) -> None:
    """As if some steps had been trained."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.trainable.values():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))


def log_probability(module: Any, one: Encoded) -> tuple[Tensor, int]:
    """Of the answer, from the full logits of transformers."""
    ids = torch.from_numpy(one.ids).long()
    by_token = (
        module(input_ids=ids[None], use_cache=False).logits[0, :-1].log_softmax(-1).gather(1, ids[1:, None])[:, 0]
    )
    mask = torch.from_numpy(one.supervised)[1:]
    return by_token[mask].sum(), int(mask.sum())


PlainLoss = Callable[[float, tuple[Tensor, ...], tuple[int, int]], Tensor]


def plain_dpo(beta: float, logs: tuple[Tensor, ...], _: tuple[int, int]) -> Tensor:
    """TRL 0.19, `DPOTrainer.dpo_loss`, `loss_type="sigmoid"`, label smoothing 0.1."""
    c, r, rc, rr = logs
    logits = (c - r) - (rc - rr)
    return -logsigmoid(beta * logits) * 0.9 - logsigmoid(-beta * logits) * 0.1


def plain_ipo(beta: float, logs: tuple[Tensor, ...], tokens: tuple[int, int]) -> Tensor:
    """TRL, `loss_type="ipo"`: log-probabilities are means over tokens."""
    (c, r, rc, rr), (n, m) = logs, tokens
    return ((c / n - r / m) - (rc / n - rr / m) - 1 / (2 * beta)) ** 2


def plain_orpo(beta: float, logs: tuple[Tensor, ...], tokens: tuple[int, int]) -> Tensor:
    """TRL, `ORPOTrainer.odds_ratio_loss`, with the cross-entropy of the answer."""
    (c, r, *_), (n, m) = logs, tokens
    pc, pr = torch.exp(c / n), torch.exp(r / m)
    return -c / n - beta * torch.log(torch.sigmoid(torch.log((pc / (1 - pc)) / (pr / (1 - pr)))))


LOSSES = [
    pytest.param(dpo_loss(Dpo(beta=0.3, label_smoothing=0.1)), plain_dpo, 0.3, id="dpo"),
    pytest.param(dpo_loss(Dpo(beta=0.2, loss_type="ipo")), plain_ipo, 0.2, id="ipo"),
    pytest.param(orpo_loss(0.25), plain_orpo, 0.25, id="orpo"),
]


@pytest.mark.parametrize(("judge", "plain", "beta"), LOSSES)
def test_losses_and_gradients_are_those_of_the_plain_formula(
    judge: PreferenceLoss, plain: PlainLoss, beta: float, tmp_path: Path
) -> None:
    model, data = make_model(tmp_path), pairs()
    start = make_model(tmp_path / "start")
    language, why = choose_layout(model, [one.chosen for one in data if isinstance(one, Pair)])
    assert why == ""
    task = PreferenceOptimization(language, judge, Reference.of(model))
    drift(model)
    before = model.copy_of_trainable()
    found = {}
    for cut, batches in (("whole", [data]), ("accumulated", [data[:2], data[2:3], data[3:]])):
        model.module.zero_grad()
        total = 0.0
        for batch in batches:
            loss = task.loss(model, task.collate(batch))
            loss.backward()
            total += float(loss.detach())
        found[cut] = (total, gradients(model))
    assert all(
        torch.equal(value, before[name]) for name, value in model.trainable.items()
    )  # the reference gave them back
    model.base.set_attn_implementation("sdpa")
    model.module.zero_grad()
    expected = torch.zeros(())
    for one in data:
        assert isinstance(one, Pair)
        (c, n), (r, m) = log_probability(model.module, one.chosen), log_probability(model.module, one.rejected)
        with torch.no_grad():
            rc, rr = (log_probability(start.module, side)[0] for side in (one.chosen, one.rejected))
        expected = expected + plain(beta, (c, r, rc, rr), (n, m))
    expected.backward()
    for total, by_name in found.values():
        assert total == pytest.approx(float(expected.detach()), rel=1e-4)
        for name, gradient in gradients(model).items():
            torch.testing.assert_close(by_name[name], gradient, rtol=2e-3, atol=1e-5, msg=name)


def gradients(model: TrainableModel) -> dict[str, Tensor]:
    return {name: value.grad.clone() for name, value in model.trainable.items() if value.grad is not None}


def test_the_reward_loss_is_bradley_terrys(tmp_path: Path) -> None:
    model, data = make_model(tmp_path, AutoModelForSequenceClassification, num_labels=1), pairs()
    task = RewardModeling(SequenceClassification(CPU, 257), centering=0.5)
    model.module.zero_grad()
    loss = task.loss(model, task.collate(data))
    loss.backward()
    found = gradients(model)
    model.module.zero_grad()
    expected = torch.zeros(())
    right = 0
    for one in data:
        assert isinstance(one, Pair)
        c, r = (
            model.module(input_ids=torch.from_numpy(side.ids).long()[None]).logits[0, 0]
            for side in (one.chosen, one.rejected)
        )
        expected = expected - torch.log(torch.sigmoid(c - r)) + 0.5 * (c + r) ** 2
        right += bool(c > r)
    expected.backward()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-6, msg=name)
    assert task.metrics(task.measure(model, task.collate(data)))["accuracy"] == right / len(data)


def test_only_the_answers_are_compared() -> None:
    for one in pairs():
        assert isinstance(one, Pair)
        for side, starts in ((one.chosen, "Gladly"), (one.rejected, "No")):
            answer = byte_tokenizer().decode(side.ids[side.supervised])
            assert answer.startswith(starts)
            assert answer.endswith("<|im_end|>")


def test_pairs_whose_answers_do_not_fit_teach_nothing() -> None:
    assert not any(one.is_learnable for one in pairs(max_length=20))
    assert all(one.is_learnable for one in pairs())
