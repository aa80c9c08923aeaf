import json
from collections import Counter
from pathlib import Path

import pytest
import triage

PER_DESK = sum(triage.SPLITS.values())


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A stand-in for the package's data: more questions than are needed, some of them nearly the same."""
    for desk, source in triage.DESKS.items():
        file = tmp_path / source.file
        file.parent.mkdir(parents=True, exist_ok=True)
        names = [f"{desk}{n}" for n in range(PER_DESK + 20)]
        questions = [f"How is a {name} like b{name} and c{name}?" for name in names]
        repeated = [question.upper().replace("?", " ??") for question in questions[:10]]
        rows = [json.dumps({source.column: question}) for question in [*repeated, "", "short?", *questions]]
        file.write_text("\n".join(rows))
    return tmp_path


def test_splits_hold_equally_many_questions_of_each_desk(data: Path) -> None:
    found = triage.splits(data)
    assert {split: Counter(desk for _, desk in examples) for split, examples in found.items()} == {
        split: dict.fromkeys(triage.DESKS, count) for split, count in triage.SPLITS.items()
    }


def test_splits_are_the_same_every_time(data: Path) -> None:
    assert triage.splits(data) == triage.splits(data)


def test_no_question_occurs_twice_however_it_is_spelled(data: Path) -> None:
    questions = [question for examples in triage.splits(data).values() for question, _ in examples]
    assert len({question.lower() for question in questions}) == len(questions)


@pytest.mark.parametrize(
    ("question", "is_new"),
    [
        pytest.param("what permissions does this app require", False, id="the same words"),
        pytest.param("what kind of permissions does this app require", False, id="mostly the same words"),
        pytest.param("how do you make plain toast", True, id="other words"),
    ],
)
def test_what_counts_as_the_same_question(question: str, *, is_new: bool) -> None:
    known = [triage._words("what permissions does this app require")]
    assert triage._is_new(triage._words(question), known) is is_new


@pytest.mark.parametrize(
    ("form", "row"),
    [
        pytest.param(
            "triage",
            {
                "messages": [
                    {"role": "system", "content": triage.INSTRUCTION},
                    {"role": "user", "content": "q"},
                    {"role": "assistant", "content": '{"desk": "Home"}'},
                ]
            },
            id="chat",
        ),
        pytest.param("triage-labelled", {"text": "q", "label": "Home"}, id="classification"),
        pytest.param(
            "triage-completions",
            {"prompt": f"{triage.INSTRUCTION}\n\nq", "completion": '{"desk": "Home"}'},
            id="prompt and completion",
        ),
    ],
)
def test_rows_have_the_form_that_the_trainer_reads(form: str, row: dict[str, object]) -> None:
    assert triage.FORMS[form]("q", "Home") == row
