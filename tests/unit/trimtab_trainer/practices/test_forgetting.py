"""Average accuracy, backward transfer, forgetting."""

import pytest

from trimtab_trainer.practices.forgetting import continual_metrics

Metrics = dict[str, float]


@pytest.mark.parametrize(
    ("base", "tuned", "expected"),
    [
        pytest.param(
            {"test_accuracy": 0.2, "general_accuracy": 0.9},
            {"test_accuracy": 0.8, "general_accuracy": 0.6},
            [0.7, -0.3, 0.3],
            id="it forgot",
        ),
        pytest.param(
            {"test_exact_match": 0.0, "general_exact_match": 0.5},
            {"test_exact_match": 0.5, "general_exact_match": 0.6},
            [0.55, 0.1, 0.0],
            id="the old task gained",
        ),
        pytest.param({"test_accuracy": 0.2}, {"test_accuracy": 0.8}, [], id="nothing to forget"),
    ],
)
def test_metrics(base: Metrics, tuned: Metrics, expected: list[float]) -> None:
    assert list(continual_metrics(base, tuned).values()) == pytest.approx(expected)
