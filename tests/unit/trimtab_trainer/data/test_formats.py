"""Reading data files: what is understood, and what each mistake is called."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.spec import DataSource
from trimtab_trainer.data.formats import Chat, Completion, Content, Labelled, Text, read_examples
from trimtab_trainer.data.prompts import Preference, Prompt
from trimtab_trainer.errors import TrainerError

CHAT = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
LANGUAGE = ("messages", "promptCompletion", "text")


def read(path: Path, *, allowed: Any = LANGUAGE, **source: Any) -> list[Content]:
    uri = f"s3://data/{path.name}"
    return [one.content for one in read_examples([(uri, path)], DataSource(uri=uri, **source), allowed=allowed)]


def write(directory: Path, name: str, content: str | bytes) -> Path:
    path = directory / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    ("name", "content", "source", "expected"),
    [
        pytest.param(
            "a.jsonl", json.dumps(CHAT), {}, Chat((("user", "a"), ("assistant", "b"))), id="messages inferred"
        ),
        pytest.param(
            "a.jsonl", '\n{"prompt":"a","completion":"b"}\n\n', {}, Completion("a", "b"), id="blank lines skipped"
        ),
        pytest.param("a.jsonl", '{"text":"a","more":1}', {}, Text("a"), id="text inferred, other columns ignored"),
        pytest.param("a.jsonl", r'{"text":"\ud83d\ude00"}', {}, Text("\U0001f600"), id="a character in two halves"),
        pytest.param("a.json", '[{"text":"a"}]', {}, Text("a"), id="a JSON list"),
        pytest.param("a.json", '{"text":"a"}', {}, Text("a"), id="JSON Lines named json"),
        pytest.param("data", '\ufeff{"text":"a"}', {}, Text("a"), id="a byte order mark, and no ending"),
        pytest.param(
            "a.csv", 'prompt,completion\n"a, b","c\nd"\n', {}, Completion("a, b", "c\nd"), id="CSV with quotes"
        ),
        pytest.param(
            "a.tsv",
            "question\tanswer\na\tb\n",
            {"columns": {"prompt": "question", "completion": "answer"}},
            Completion("a", "b"),
            id="mapped columns",
        ),
        pytest.param(
            "a.csv",
            'messages\n"[{""role"": ""assistant"", ""content"": ""b""}]"\n',
            {},
            Chat((("assistant", "b"),)),
            id="messages in a CSV cell",
        ),
        pytest.param(
            "a.jsonl",
            '{"messages":[],"body":"x"}',
            {"format": "text", "columns": {"text": "body"}},
            Text("x"),
            id="a stated format wins",
        ),
    ],
)
def test_rows_are_read(name: str, content: str, source: dict[str, Any], expected: Content, tmp_path: Path) -> None:
    assert read(write(tmp_path, name, content), **source) == [expected]


@pytest.mark.parametrize(("label", "expected"), [("yes", "yes"), (3, "3"), (True, "true")])
def test_labels_are_text(label: Any, expected: str, tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", json.dumps({"text": "a", "label": label}))
    assert read(path, allowed=("labelled",)) == [Labelled("a", expected)]


def test_parquet_is_read(tmp_path: Path) -> None:
    parquet.write_table(pa.Table.from_pylist([CHAT, CHAT]), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == 2 * [Chat((("user", "a"), ("assistant", "b")))]


GOOD = '{"text":"a"}\n'


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        pytest.param(
            "t.jsonl",
            16 * GOOD + '{"text": "a"\n' + GOOD,
            ["s3://data/t.jsonl line 17: not valid JSON", "Each line must be one JSON object"],
            id="broken line 17",
        ),
        pytest.param("t.jsonl", GOOD + "[1]\n", ["line 2: must be a JSON object; got a list"], id="a list in a line"),
        pytest.param(
            "t.jsonl",
            '{"body":"a"}',
            ["line 1: columns body fit no format", "messages (messages)", "`columns`"],
            id="no known column",
        ),
        pytest.param(
            "t.jsonl", '{"text":5}', ["line 1: column 'text' must be text; got a number"], id="a number for text"
        ),
        pytest.param("t.jsonl", '{"text":null}', ["column 'text' must be text; got nothing"], id="null for text"),
        pytest.param("t.jsonl", '{"messages":"hi"}', ["'messages' must be a list"], id="text for messages"),
        pytest.param(
            "t.jsonl",
            '{"messages":[{"role":"bot","content":"a"}]}',
            ["message 1 has the role 'bot'; must be one of system"],
            id="unknown role",
        ),
        pytest.param(
            "t.jsonl",
            '{"messages":[{"role":"user","content":["a"]}]}',
            ["message 1 must have text in 'content'; got a list"],
            id="content in parts",
        ),
        pytest.param("t.jsonl", b'{"text":"\xff"}', ["line 1: not valid UTF-8"], id="other encoding"),
        pytest.param(
            "t.jsonl",
            GOOD + r'{"text":"a \ud83d b"}',
            [r"line 2: has half of a character (\ud83d)"],
            id="half an emoji",
        ),
        pytest.param(
            "t.json", r'[{"text":"\udE00"}]', [r"item 1: has half of a character (\ude00)"], id="the other half"
        ),
        pytest.param("t.jsonl", GOOD + 99_999 * "[", ["line 2: not valid JSON"], id="nested without an end"),
        pytest.param(
            "t.csv",
            "text\na,b\n",
            ["line 2: has another number of fields than the header's 1"],
            id="CSV with an unquoted comma",
        ),
        pytest.param("t.csv", 'text\n"a\n', ["not valid CSV"], id="CSV with an open quote"),
        pytest.param("t.parquet", "no", ["not a readable Parquet file"], id="not Parquet"),
        pytest.param("t.json", "[1", ["not valid JSON"], id="broken JSON list"),
        pytest.param("t.jsonl", "\n", ["s3://data/t.jsonl has no rows"], id="no rows"),
        pytest.param("t.csv", "text\n", ["s3://data/t.csv has no rows"], id="a header and no rows"),
        pytest.param("t.jsonl", 9 * "x\n", ["line 1: ", "line 3: ", "and 6 more rows"], id="many bad rows are counted"),
    ],
)
def test_mistakes_are_named_with_file_and_line(
    name: str, content: str | bytes, words: list[str], tmp_path: Path
) -> None:
    with pytest.raises(TrainerError) as caught:
        read(write(tmp_path, name, content))
    assert caught.value.reason is TrainerReason.DATASET_INVALID
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        pytest.param(
            {"columns": {"question": "a"}},
            "names the role 'question'; a row has: messages, prompt, completion, text",
            id="unknown role",
        ),
        pytest.param({"format": "text", "columns": {"prompt": "a"}}, "a row has: text", id="role of another format"),
    ],
)
def test_wrong_columns_are_a_wrong_configuration(source: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(TrainerError, match=words) as caught:
        read(write(tmp_path, "a.jsonl", GOOD), **source)
    assert caught.value.reason is TrainerReason.CONFIG_INVALID


def test_a_mapped_column_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainerError, match="column 'body' is missing; the row has: text"):
        read(write(tmp_path, "a.jsonl", GOOD), format="text", columns={"text": "body"})


USER, KIND, RUDE = (
    {"role": role, "content": words} for role, words in (("user", "a"), ("assistant", "b"), ("assistant", "c"))
)
TURNS = Preference((("user", "a"),), (("assistant", "b"),), (("assistant", "c"),))


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        pytest.param({"prompt": "a", "chosen": "b", "rejected": "c"}, Preference("a", "b", "c"), id="text"),
        pytest.param({"prompt": [USER], "chosen": [KIND], "rejected": [RUDE]}, TURNS, id="messages"),
        pytest.param(
            {"prompt": "a", "chosen": [USER, KIND], "rejected": [USER, RUDE]}, TURNS, id="whole conversations"
        ),
        pytest.param({"prompt": [USER], "chosen": "b", "rejected": "c"}, TURNS, id="messages, and answers as text"),
    ],
)
def test_preferences(row: dict[str, Any], expected: Preference, tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", json.dumps(row))
    assert read(path, allowed=("preference",)) == [expected]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        pytest.param(
            {"prompt": "a", "chosen": 1, "rejected": "c"}, "line 1: column 'chosen' must be text", id="number"
        ),
        pytest.param({"prompt": "a", "chosen": "b"}, "line 1: columns prompt, chosen fit no format", id="no rejected"),
        pytest.param(
            {"prompt": "z", "chosen": [USER, KIND], "rejected": [RUDE]}, "other messages than the prompt's", id="prompt"
        ),
        pytest.param({"prompt": "a", "chosen": [KIND, USER], "rejected": [RUDE]}, "must end with", id="no answer"),
    ],
)
def test_preferences_that_cannot_be_meant(row: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(TrainerError, match=message):
        read(write(tmp_path, "a.jsonl", json.dumps(row)), allowed=("preference",))


def test_a_prompt_keeps_the_other_columns_of_its_row(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", '{"prompt": "1+1", "answer": 2, "unit": "apples", "none": null}')
    assert read(path, allowed=("prompt",)) == [Prompt("1+1", (("answer", "2"), ("unit", "apples")))]
