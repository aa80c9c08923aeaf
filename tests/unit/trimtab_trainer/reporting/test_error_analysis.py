"""Where a model goes wrong, as the report shows it."""

from trimtab_trainer.reporting.error_analysis import (
    Confusion,
    ErrorAnalysis,
    WorstExample,
    draw_confusion,
    render_errors,
)


def test_tables_hold_what_users_write() -> None:
    worst = [WorstExample(text="a | b\nc", expected="", predicted="x", loss=1.5)]
    errors = ErrorAnalysis(
        split="test", examined=1, worst=worst, confusion=Confusion(labels=["x", "y"], counts=[[1, 0], [2, 3]])
    )
    text = render_errors(errors)
    assert "| 1.5 | a \\| b c | *(nothing)* | x |" in text
    assert "| **y** | 2 | 3 |" in text
    assert render_errors(None) == ""


def test_many_labels_are_a_picture_only() -> None:
    labels = [f"label {number}" for number in range(40)]
    confusion = Confusion(labels=labels, counts=[[int(row == column) for column in range(40)] for row in range(40)])
    assert draw_confusion(confusion, title="many").startswith(b"\x89PNG")
    text = render_errors(
        ErrorAnalysis(
            split="test", examined=40, worst=[WorstExample(text="t", expected="e", loss=1)], confusion=confusion
        )
    )
    assert "label 7" not in text
