"""Rows of any columns as prompts and completions."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.support.rows import write_jsonl

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.spec import DataFormat, DataSource
from trimtab_trainer.contract.templates import Template
from trimtab_trainer.data.files import RowError
from trimtab_trainer.data.formats import Completion, read_examples
from trimtab_trainer.data.templates import filled
from trimtab_trainer.errors import TrainerError

FORMATS: tuple[DataFormat, ...] = ("messages", "promptCompletion", "text")
ROW = {"text": "Where is {my} card?", "label": "Finance", "stars": 4, "tags": ["a", "é"], "is-new": True}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        pytest.param("Which desk? {text}", "Which desk? Where is {my} card?", id="what a cell says is no template"),
        pytest.param('{"desk": "{label}"}', '{"desk": "Finance"}', id="JSON around a column"),
        pytest.param("{stars} of 5, {tags}, {is-new}", '4 of 5, ["a", "é"], true', id="numbers, lists and truths"),
        pytest.param("{label}{label}", "FinanceFinance", id="a column twice"),
        pytest.param("{} {0} {a b} {{x}", None, id="an unknown column among braces"),
        pytest.param("no column", "no column", id="no column"),
    ],
)
def test_columns_take_their_places(template: str, expected: str | None) -> None:
    if expected is None:
        with pytest.raises(
            RowError, match="a template names the column 'x', which the row does not have; it has: text"
        ):
            filled(ROW, [Template(prompt=template, completion="{label}")])
    else:
        assert filled(ROW, [Template(prompt=template, completion="{label}")]) == (expected, "Finance")


def test_each_row_follows_one_template_whatever_stands_around_it(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"text": f"text {number}", "label": "yes"} for number in range(300)]
    templates = [{"prompt": f"{name}: {{text}}", "completion": "{label}"} for name in ("First", "Second", "Third")]
    source = DataSource.model_validate({"uri": "s3://data/rows.jsonl", "templates": templates})

    def prompts(chosen: list[dict[str, Any]]) -> list[str]:
        path = write_jsonl(tmp_path / "rows.jsonl", chosen)
        contents = [one.content for one in read_examples([("rows.jsonl", path)], source, allowed=FORMATS)]
        return [content.prompt for content in contents if isinstance(content, Completion)]

    found = prompts(rows)
    assert [prompt.partition(": ")[2] for prompt in found] == [row["text"] for row in rows]
    assert prompts(rows[::-7]) == found[::-7]
    assert min(Counter(prompt.partition(":")[0] for prompt in found).values()) > 70


@pytest.mark.parametrize(
    ("more", "allowed"),
    [
        pytest.param({"format": "messages"}, FORMATS, id="with a format"),
        pytest.param({"columns": {"prompt": "text"}}, FORMATS, id="with columns"),
        pytest.param({}, ("preference",), id="for preferences"),
        pytest.param({}, ("labelled",), id="for a classifier"),
    ],
)
def test_templates_that_cannot_be_meant(more: dict[str, Any], allowed: tuple[DataFormat, ...], tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", [ROW])
    document = {"uri": "s3://data/rows.jsonl", "templates": [{"prompt": "{text}", "completion": "{label}"}], **more}
    with pytest.raises(TrainerError, match="they stand instead of `format` and `columns`") as refused:
        read_examples([("rows.jsonl", path)], DataSource.model_validate(document), allowed=allowed)
    assert refused.value.reason == TrainerReason.CONFIG_INVALID


def test_a_row_without_the_column_is_named(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", [ROW, {"text": "alone", "label": None}])
    document = {"uri": "s3://data/rows.jsonl", "templates": [{"prompt": "{text}", "completion": "{label}"}]}
    with pytest.raises(TrainerError, match=r"rows\.jsonl line 2: a template names the column 'label'"):
        read_examples([("rows.jsonl", path)], DataSource.model_validate(document), allowed=FORMATS)
