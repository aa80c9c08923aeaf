"""What is particular to classifying texts."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, log_loss, precision_score, recall_score, roc_auc_score
from torch import Tensor

from trimtab_trainer.errors import TrainerError
from trimtab_trainer.tasks.sequence_classification import LabelledBatch, SequenceClassification, choose_labels


@pytest.mark.parametrize(
    ("stated", "found", "expected"),
    [
        pytest.param([], ["b", "a", "b"], ("a", "b"), id="sorted labels of the training split"),
        pytest.param(["z", "a"], ["a"], ("z", "a"), id="stated labels keep their order"),
        pytest.param([], ["a", "a"], None, id="one label is no choice"),
        pytest.param(["a", "a"], [], None, id="a label twice"),
    ],
)
def test_labels(stated: list[str], found: list[str], expected: tuple[str, ...] | None) -> None:
    if expected is None:
        with pytest.raises(TrainerError, match="at least two different labels"):
            choose_labels(stated, set(found))
    else:
        assert choose_labels(stated, set(found)) == expected


def measured(logits: Tensor, labels: Tensor, *, cut: int) -> dict[str, float]:
    """What the task makes of a model with these outputs, over two batches."""
    task, sums = SequenceClassification(torch.device("cpu"), 0), dict[str, Any]()
    for rows in (slice(None, cut), slice(cut, None)):
        model = SimpleNamespace(
            autocast=lambda: torch.autocast("cpu", enabled=False),
            module=lambda rows=rows, **_: SimpleNamespace(logits=logits[rows]),
        )
        found = task.measure(model, LabelledBatch({}, labels[rows]))  # type: ignore[arg-type]
        sums = {name: sums.get(name, 0.0) + value for name, value in found.items()}
    return task.metrics(sums)


@pytest.mark.parametrize(
    ("classes", "shown", "never"),
    [
        pytest.param(2, (0, 1), None, id="two classes"),
        pytest.param(5, (0, 1, 2, 3, 4), None, id="five classes"),
        pytest.param(5, (0, 1, 1, 1, 1, 1, 4), 4, id="uneven, one never predicted, two that do not occur"),
    ],
)
def test_metrics_are_those_of_scikit_learn(classes: int, shown: tuple[int, ...], never: int | None) -> None:
    generator = torch.Generator().manual_seed(classes)
    labels = torch.tensor(shown)[torch.randint(len(shown), (500,), generator=generator)]
    logits = torch.randn(500, classes, generator=generator)
    logits[torch.arange(500), labels] += 1
    if never is not None:
        logits[:, never] -= 9
    found, predicted = measured(logits, labels, cut=123), logits.argmax(-1)
    macro = {"average": "macro", "zero_division": 0}
    probabilities, occurring = logits.double().softmax(-1), sorted(set(shown))
    areas = [roc_auc_score(labels == label, probabilities[:, label]) for label in occurring]
    assert found == pytest.approx(
        {
            "loss": log_loss(labels, probabilities, labels=range(classes)),
            "accuracy": accuracy_score(labels, predicted),
            "precision": precision_score(labels, predicted, **macro),
            "recall": recall_score(labels, predicted, **macro),
            "f1": f1_score(labels, predicted, **macro),
            "roc_auc": pytest.approx(sum(areas) / len(areas), abs=2e-3),
        }
    )
