"""Class weights, balanced batches, smoothed labels: as torch and the formulas have them."""

from typing import Any

import numpy as np
import pytest
import torch
from tests.support.training import make_job
from torch import nn

from trimtab_trainer.data.batches import BatchPlan
from trimtab_trainer.data.encoded import Encoded
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.model import TrainableModel
from trimtab_trainer.practices.classes import balanced_probabilities, class_weights
from trimtab_trainer.tasks.cross_entropy import linear_cross_entropy

MODEL = TrainableModel(None, None, torch.device("cpu"), torch.float32, labels=("no", "yes", "other"))
LABELS = [0, 0, 0, 0, 0, 1, 1, 2]


def examples() -> list[Encoded]:
    return [Encoded(np.zeros(1, np.int32), np.zeros(1, np.bool_), label) for label in LABELS]


def weights_of(settings: dict[str, Any]) -> list[float] | None:
    found = class_weights(make_job(training={"classWeights": settings}), MODEL, examples())
    return None if found is None else found.tolist()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        pytest.param({"balanced": {}}, [8 / 15, 8 / 6, 8 / 3], id="balanced, as scikit-learn has them"),
        pytest.param({"byLabel": {"no": 2.0}}, [16 / 13, 8 / 13, 8 / 13], id="given; their mean is 1"),
        pytest.param({"byLabel": {"no": 0.0}}, [0.0, 8 / 3, 8 / 3], id="a class that does not count"),
    ],
)
def test_weights(settings: dict[str, Any], expected: list[float]) -> None:
    assert weights_of(settings) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("named", "words"),
    [({"maybe": 1.0}, "the labels are: no, yes, other"), ({"no": 0, "yes": 0, "other": 0}, "weight 0")],
)
def test_weights_that_cannot_be_meant(named: dict[str, float], words: str) -> None:
    with pytest.raises(TrainerError, match=words):
        weights_of({"byLabel": named})


def test_balanced_sampling_draws_each_class_equally_often() -> None:
    probabilities = balanced_probabilities(LABELS)
    shares = [sum(p for p, label in zip(probabilities, LABELS, strict=True) if label == number) for number in range(3)]
    assert shares == pytest.approx([1 / 3] * 3)
    plan = BatchPlan(
        rows=[(number,) for number in range(8)],
        lengths=[1] * 8,
        global_batch_size=8,
        seed=1,
        group_by_length=True,
        probabilities=probabilities.tolist(),
    )
    drawn = [LABELS[index] for step in range(300) for (index,) in plan.global_batch(step)]
    assert [drawn.count(number) / len(drawn) for number in range(3)] == pytest.approx([1 / 3] * 3, abs=0.03)


def test_a_curriculum_begins_with_short_rows_and_has_each_once() -> None:
    lengths = [5, 1, 4, 2, 3, 6]
    plan = BatchPlan(
        rows=[(number,) for number in range(6)],
        lengths=lengths,
        global_batch_size=2,
        seed=1,
        group_by_length=True,
        short_first_epochs=1,
    )
    first = [lengths[index] for step in range(3) for (index,) in plan.global_batch(step)]
    second = [lengths[index] for step in range(3, 6) for (index,) in plan.global_batch(step)]
    assert first == [2, 1, 4, 3, 6, 5]  # pairs from short to long; within a batch the longest is first
    assert (sorted(second), second == first) == ([1, 2, 3, 4, 5, 6], False)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_smoothed_losses_and_gradients_are_torchs(smoothing: float) -> None:
    torch.manual_seed(0)
    hidden, weight = (torch.randn(shape, requires_grad=True) for shape in ((7, 5), (11, 5)))
    targets = torch.randint(11, (7,))
    ours = linear_cross_entropy(hidden, weight, targets, smoothing)
    found = torch.autograd.grad(3 * ours, (hidden, weight))
    theirs = nn.functional.cross_entropy(hidden @ weight.T, targets, reduction="sum", label_smoothing=smoothing)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(found, torch.autograd.grad(3 * theirs, (hidden, weight)))
