"""Average accuracy, backward transfer, forgetting: over one step, and over a chain of versions."""

import pytest

from trimtab_trainer.contract.spec import Data
from trimtab_trainer.practices.forgetting import continual_metrics, continual_names, render_continual

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
        pytest.param({"general_f1": 0.5}, {"general_f1": 0.4}, [0.4, -0.1, 0.1], id="nothing new is measured"),
        pytest.param({"test_accuracy": 0.2}, {"test_accuracy": 0.8}, [], id="nothing to forget"),
    ],
)
def test_of_one_step(base: Metrics, tuned: Metrics, expected: list[float]) -> None:
    assert list(continual_metrics(base, tuned, earlier={}).values()) == pytest.approx(expected)


ACCURACY_OF = {  # of three tasks, after each of three trainings
    "a": (0.90, 0.80, 0.85),
    "b": (0.30, 0.95, 0.70),
    "c": (0.20, 0.25, 0.99),
}


def measured(task: str, earlier: str, turn: int) -> Metrics:
    """What a job measures that learns `task` and names `earlier` tasks as general data."""
    found = {"test_accuracy": ACCURACY_OF[task][turn], f"test_accuracy[data set={task}]": ACCURACY_OF[task][turn]}
    for name in earlier:
        found[f"general_accuracy[data set={name}]"] = ACCURACY_OF[name][turn]
    return found | ({"general_accuracy": 0.5} if earlier else {})


def test_over_a_chain_by_the_papers_formulas() -> None:
    version: Metrics = {}
    for turn, (task, earlier) in enumerate([("a", ""), ("b", "a"), ("c", "ab")]):
        before = measured(task, earlier, max(turn - 1, 0))
        version = continual_metrics(before, measured(task, earlier, turn), earlier=version)
    a, b, c = ACCURACY_OF["a"], ACCURACY_OF["b"], ACCURACY_OF["c"]
    assert version["continual_average_accuracy"] == pytest.approx((a[2] + b[2] + c[2]) / 3)
    assert version["continual_backward_transfer"] == pytest.approx(((a[2] - a[0]) + (b[2] - b[1])) / 2)
    assert version["continual_forgetting"] == pytest.approx(((max(a[:2]) - a[2]) + (max(b[:2]) - b[2])) / 2)
    assert version["continual_forgetting_of_a"] == pytest.approx(0.05)
    assert version["continual_forgetting_of_b"] == pytest.approx(0.25)
    assert version["continual_best_of_c"] == c[2]
    assert "| b | 0.95 | 0.95 | 0.7 | -0.25 | 0.25 |" in render_continual(version)


def test_what_is_not_measured_now_is_remembered_for_later() -> None:
    first = continual_metrics({}, measured("a", "", 0), earlier={})
    second = continual_metrics({}, measured("b", "", 1), earlier=first)
    assert second == {
        "continual_learned_of_a": 0.9,
        "continual_best_of_a": 0.9,
        "continual_learned_of_b": 0.95,
        "continual_best_of_b": 0.95,
    }


def test_gates_may_ask_for_each_named_data_set() -> None:
    data = Data.model_validate(
        {"train": [{"uri": "s3://a/b"}], "general": [{"uri": "s3://a/c", "name": "news"}, {"uri": "s3://a/d"}]}
    )
    assert {"continual_forgetting", "continual_forgetting_of_news"} <= set(continual_names(data))
    assert continual_names(data.model_copy(update={"general": []})) == []
