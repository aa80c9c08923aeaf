"""Groups of held-out examples: their metrics, the gap between them, the worst of them."""

import math
from collections.abc import Mapping, Sequence

import pytest

from trimtab_trainer.contract.data_checks import Slices
from trimtab_trainer.contract.messages import DataSummary
from trimtab_trainer.data.formats import Example, Labelled
from trimtab_trainer.data.splits import Split
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.slices import check_columns, comparison_names, headlines, measure_slices, render_slices


def split(rows: Sequence[tuple[bool, Mapping[str, str]]]) -> Split:
    """What is encoded is whether the model is right."""
    examples = [Example("line", Labelled("a", "b"), groups=groups) for _, groups in rows]
    return Split("test", [right for right, _ in rows], examples, DataSummary(split="test", examples=len(rows)))  # type: ignore[misc]


def measure(part: Split) -> dict[str, float]:
    accuracy = sum(map(bool, part.encoded)) / len(part.encoded)
    return {"accuracy": accuracy, "loss": 1 - accuracy, "roc_auc": math.nan}


ROWS = [
    *[(number < 9, {"gender": "f"}) for number in range(10)],
    *[(number < 6, {"gender": "m"}) for number in range(10)],
    *[(False, {"gender": "x"}) for _ in range(2)],
    (True, {}),
]


def test_groups_that_are_large_enough_are_compared() -> None:
    found = measure_slices(Slices(columns=["gender"]), split(ROWS), measure)
    assert found["accuracy[gender=f]"] == 0.9
    assert found["examples[gender=x]"] == 2
    assert found["accuracy[gender=x]"] == 0
    assert headlines(found) == pytest.approx(
        {
            "accuracy_gap_by_gender": 0.3,
            "accuracy_worst_by_gender": 0.6,
            "loss_gap_by_gender": 0.3,
            "loss_worst_by_gender": 0.4,
        }
    )


def test_small_groups_are_compared_where_that_is_wanted() -> None:
    found = measure_slices(Slices(columns=["gender"], minimum_examples=2), split(ROWS), measure)
    assert found["accuracy_worst_by_gender"] == 0


def test_every_comparison_has_a_name_that_gates_know() -> None:
    slices = Slices(columns=["gender"])
    found = headlines(measure_slices(slices, split(ROWS), measure))
    assert set(found) <= set(comparison_names(slices, ["loss", "accuracy", "roc_auc"]))


def test_the_report_has_a_row_for_each_group() -> None:
    found = {
        f"test_{name}": value
        for name, value in measure_slices(Slices(columns=["gender"]), split(ROWS), measure).items()
    }
    lines = render_slices({"test_accuracy[gender=f]": 0.5}, found).splitlines()
    assert lines[0] == "## By gender"
    assert "| f | 10 | test_accuracy | 0.5 | 0.9 |" in lines
    assert "| x | 2 | test_accuracy |  | 0 |" in lines


@pytest.mark.parametrize(
    ("column", "rows", "words"),
    [
        ("region", ROWS, "region` is in no row"),
        ("id", [(True, {"id": str(number)}) for number in range(40)], "id` has 40 values"),
    ],
)
def test_columns_that_make_no_groups_are_refused(
    column: str, rows: Sequence[tuple[bool, Mapping[str, str]]], words: str
) -> None:
    with pytest.raises(TrainerError, match=words):
        check_columns(Slices(columns=[column]), {"test": split(rows)})
