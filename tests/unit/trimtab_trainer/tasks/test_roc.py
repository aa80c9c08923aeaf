"""The area under the ROC curve, against counting all pairs."""

import pytest
import torch
from torch import Tensor

from trimtab_trainer.tasks.roc import roc_auc, score_counts


def by_pairs(scores: Tensor, is_true: Tensor) -> float:
    own, others = scores[is_true][:, None], scores[~is_true][None]
    return float(((own > others).double() + 0.5 * (own == others)).mean())


@pytest.mark.parametrize("classes", [2, 3, 40])
def test_it_is_the_share_of_pairs_in_the_right_order(classes: int) -> None:
    torch.manual_seed(classes)
    labels = torch.arange(4000) % classes
    logits = torch.randn(4000, classes)
    logits[torch.arange(4000), labels] += 1
    sums: dict[str, float] = {}
    for start in range(0, 4000, 500):
        found = score_counts(logits[start : start + 500], labels[start : start + 500])
        sums = {name: sums.get(name, 0.0) + value for name, value in found.items()}
    scores = torch.special.logit(logits.double().softmax(-1))
    expected = sum(by_pairs(scores[:, label], labels == label) for label in range(classes)) / classes
    assert roc_auc(sums, classes) == pytest.approx(expected, abs=2e-3)
    assert 0.6 < expected < 0.95


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        pytest.param([0, 0, 1, 1], 1.0, id="perfect"),
        pytest.param([1, 1, 0, 0], 0.0, id="the wrong way round"),
        pytest.param([0, 0, 0, 0], 0.5, id="only one class occurs"),
    ],
)
def test_ends(labels: list[int], expected: float) -> None:
    logits = torch.tensor([[3.0, 0], [2, 0], [0, 2], [0, 3]])
    assert roc_auc(score_counts(logits, torch.tensor(labels)), 2) == expected
