"""Springs on the weights: gradients by formula, Fisher information by hand, and less forgetting."""

from collections.abc import Callable, Sequence

import pytest
import torch
from tests.support.small_classifier import TASK, fit, measured, small_classifier, texts

from trimtab_trainer.contract.practices import Continual
from trimtab_trainer.data.encoding import Encoded
from trimtab_trainer.model import TrainableModel
from trimtab_trainer.practices.anchor import Anchor, estimate_fisher, make_anchor
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


Before = Callable[[TrainableModel], Anchor | None]


def accuracy_on_both(*, mixed: Sequence[Encoded] = (), continual: Continual | None = None) -> tuple[float, float]:
    """Held-out accuracy on the first and on the second task, after training on one after the other."""
    first, second = {"telling": (0, 10)}, {"telling": (20, 30), "misleading": (0, 10)}
    model = small_classifier()
    fit(model, texts(256, seed=1, **first), steps=40)  # type: ignore[arg-type]
    anchor = None
    if continual is not None:
        anchor = make_anchor(continual, model, ())
        anchor.fisher = fisher_of(model, texts(64, seed=1, **first))  # type: ignore[arg-type]
    news = texts(256, seed=3, **second)  # type: ignore[arg-type]
    examples = [one for pair in zip(news, mixed, strict=False) for one in pair] if mixed else news

    def pull_and_clip() -> None:
        if anchor is not None:
            anchor.pull(model.trainable)
        torch.nn.utils.clip_grad_norm_(model.module.parameters(), 1.0)

    fit(model, examples, steps=150, before_step=pull_and_clip)
    return (
        measured(model, texts(200, seed=2, **first))["accuracy"],  # type: ignore[arg-type]
        measured(model, texts(200, seed=4, **second))["accuracy"],  # type: ignore[arg-type]
    )


@pytest.mark.usefixtures("one_thread")
def test_replay_ewc_and_l2sp_lower_forgetting() -> None:
    forgotten, learned = accuracy_on_both()
    assert learned > 0.95
    assert forgotten < 0.7
    for name, arguments in {
        "replay": {"mixed": texts(256, seed=1)},
        "EWC": {"continual": Continual.model_validate({"ewc": {"strength": 10000.0}})},
        "L2-SP": {"continual": Continual.model_validate({"startingPoint": {"strength": 0.01}})},
    }.items():
        kept, learned = accuracy_on_both(**arguments)  # type: ignore[arg-type]
        print(name, forgotten, kept, learned)
        assert learned > 0.9, name
        assert kept > forgotten + 0.1, name
