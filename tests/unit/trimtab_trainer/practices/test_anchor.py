"""Springs on the weights: gradients by formula and Fisher information by hand."""

from collections.abc import Sequence

import pytest
import torch
from tests.support.small_classifier import TASK, small_classifier, texts

from trimtab_trainer.contract.practices import Continual
from trimtab_trainer.data.encoded import Encoded
from trimtab_trainer.model import TrainableModel
from trimtab_trainer.practices.anchor import estimate_fisher, make_anchor
from trimtab_trainer.world import World

EWC = Continual.model_validate({"ewc": {"strength": 3.0}})
L2SP = Continual.model_validate({"startingPoint": {"strength": 0.5, "newWeightsStrength": 0.1}})
HEAD = ("classifier.weight", "classifier.bias")


def fisher_of(model: TrainableModel, examples: Sequence[Encoded]) -> dict[str, torch.Tensor]:
    return estimate_fisher(model, TASK, examples, world=World(), stop=lambda: False)


@pytest.mark.parametrize("settings", [EWC, L2SP], ids=["EWC", "L2-SP"])
def test_the_pull_is_the_penaltys_gradient(settings: Continual) -> None:
    model = small_classifier()
    anchor = make_anchor(settings, model, HEAD)
    torch.manual_seed(0)
    if settings.ewc is not None:
        anchor.fisher = {name: torch.rand_like(weight) for name, weight in model.trainable.items()}
    expected = torch.zeros(())
    for name, weight in model.trainable.items():
        weight.data += 0.1 * torch.randn_like(weight)
        weight.grad = torch.zeros_like(weight)
        start = torch.zeros_like(weight) if settings.starting_point and name in HEAD else anchor.start[name]
        stiffness = 3.0 * anchor.fisher[name] if settings.ewc else 0.1 if name in HEAD else 0.5
        expected = expected + (stiffness / 2 * (weight - start) ** 2).sum()
    gradients = torch.autograd.grad(expected, list(model.trainable.values()))
    assert anchor.pull(model.trainable) == pytest.approx(float(expected), rel=1e-5)
    for weight, gradient in zip(model.trainable.values(), gradients, strict=True):
        torch.testing.assert_close(weight.grad, gradient)


def test_the_fisher_information_is_the_mean_squared_gradient_of_single_examples() -> None:
    model, examples = small_classifier(), texts(6, seed=1)
    found = fisher_of(model, examples)
    model.module.eval()
    for name in ("classifier.weight", "bert.embeddings.word_embeddings.weight"):
        squares = [
            torch.autograd.grad(TASK.loss(model, TASK.collate([example])), model.trainable[name])[0] ** 2
            for example in examples
        ]
        torch.testing.assert_close(found[name], torch.stack(squares).mean(0))
    assert all(weight.grad is None for weight in model.trainable.values())
