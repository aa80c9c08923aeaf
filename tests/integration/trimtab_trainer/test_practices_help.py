"""What practices are for, measured: less forgetting, and more accuracy under attack."""

from collections.abc import Sequence
from typing import Any

import torch
from tests.support.small_classifier import TASK, fit, measured, small_classifier, texts

from trimtab_trainer.contract.practices import Adversarial, Continual
from trimtab_trainer.data.encoded import Encoded
from trimtab_trainer.practices.adversarial import Attack
from trimtab_trainer.practices.anchor import estimate_fisher, make_anchor
from trimtab_trainer.practices.embeddings import attach_embeddings
from trimtab_trainer.world import World


def accuracy_on_both(*, mixed: Sequence[Encoded] = (), continual: Continual | None = None) -> tuple[float, float]:
    """Held-out accuracy on the first and on the second task, after training on one after the other."""
    first, second = {"telling": (0, 10)}, {"telling": (20, 30), "misleading": (0, 10)}
    model = small_classifier()
    fit(model, texts(256, seed=1, **first), steps=40)  # type: ignore[arg-type]
    anchor = None
    if continual is not None:
        anchor = make_anchor(continual, model, ())
        examples = texts(64, seed=1, **first)  # type: ignore[arg-type]
        anchor.fisher = estimate_fisher(model, TASK, examples, world=World(), stop=lambda: False)
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


def accuracies(settings: dict[str, Any] | None) -> tuple[float, float]:
    """Held-out accuracy after 100 steps: clean, and under FGM."""
    model = small_classifier()
    measuring = Attack(
        Adversarial.model_validate({"fgm": {"epsilon": 1.0}}), attach_embeddings(model, noise_alpha=None)
    )
    attack = None if settings is None else Attack(Adversarial.model_validate(settings), measuring.embeddings)
    fit(model, texts(256, seed=1), attack=attack)
    found = measured(model, texts(128, seed=2), measuring)
    return found["accuracy"], found["adversarial_accuracy"]


def test_adversarial_training_raises_accuracy_under_attack() -> None:
    plain, plain_attacked = accuracies(None)
    assert plain > 0.95
    for settings in (
        {"fgm": {"epsilon": 1.0}},
        {"pgd": {"epsilon": 1.0, "steps": 2, "stepSize": 0.6}},
        {"freeLb": {"epsilon": 1.0, "steps": 2, "stepSize": 0.6}},
    ):
        clean, under_attack = accuracies(settings)
        assert clean > 0.95
        assert under_attack > plain_attacked + 0.3, settings
