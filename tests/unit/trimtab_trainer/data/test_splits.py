"""Splits: held out by hash, checked, counted."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.support.rows import chats, labelled, write_jsonl
from tests.support.tiny_models import byte_tokenizer
from tests.support.training import make_job

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.spec import DataSource
from trimtab_trainer.data.encoding import TextEncoder
from trimtab_trainer.data.formats import Chat, Example, Text
from trimtab_trainer.data.splits import encode_split, hold_out, leakage, named_files, read_data
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.tasks.language_modeling import CausalLanguageModeling


def texts(*words: str) -> list[Example]:
    return [Example(f"line {number}", Text(word)) for number, word in enumerate(words)]


def test_the_held_out_split_depends_on_what_examples_say_alone() -> None:
    examples = texts(*(f"text {number}" for number in range(400)))
    train, validation = hold_out(examples, 0.25)
    again = hold_out(list(reversed(examples)) + texts("text 7"), 0.25)
    assert {one.content for one in validation} == {one.content for one in again[1]}
    assert 60 < len(validation) < 140
    assert len(train) + len(validation) == 400


@pytest.mark.parametrize("fraction", [1e-9, 1 - 1e-9])
def test_a_fraction_that_leaves_a_split_empty_is_refused(fraction: float) -> None:
    with pytest.raises(TrainerError, match="both must have one"):
        hold_out(texts("a", "b"), fraction)


def test_examples_that_are_in_two_splits_are_counted() -> None:
    found = leakage(
        {"train": texts("a", "b"), "validation": texts("b", "c"), "test": texts("d"), "general": texts("e")}
    )
    assert found == ["1 of 2 validation examples are also in the training split."]


def test_empty_cut_and_unsupervised_examples_are_counted() -> None:
    examples = [
        Example("1", Chat((("user", "a"), ("assistant", "b")))),
        Example("2", Chat((("user", "a"), ("assistant", " ")))),
        Example("3", Chat((("user", 200 * "a"), ("assistant", "b")))),
        Example("4", Chat((("user", "a"), ("assistant", 200 * "b")))),
    ]
    split = encode_split("train", examples, TextEncoder(byte_tokenizer(), 100).encode)
    counts = split.summary
    assert (counts.examples, counts.empty, counts.truncated, counts.unsupervised) == (2, 1, 1, 1)
    assert counts.supervised_tokens == sum(one.targets for one in split.encoded)
    assert split.lengths["100"] == 100


def test_a_split_without_anything_to_learn_is_refused() -> None:
    with pytest.raises(TrainerError, match="2 of 2 are empty"):
        encode_split("train", texts("", " "), TextEncoder(byte_tokenizer(), 100).encode)


def test_a_format_of_another_task_is_refused(tmp_path: Path) -> None:
    config = make_job(data={"train": [{"uri": "s3://data/x.jsonl", "format": "labelled"}]})
    with pytest.raises(
        TrainerError, match=r"`format: labelled` .* does not fit the task causalLanguageModeling"
    ) as caught:
        read_data(
            config,
            lambda source: pytest.fail(f"fetched {source.uri} in {tmp_path}"),
            allowed=CausalLanguageModeling.formats,
        )
    assert caught.value.reason is TrainerReason.CONFIG_INVALID


def test_all_data_sets_are_read_and_recorded(tmp_path: Path) -> None:
    def fetch(source: DataSource) -> Any:
        rows = chats(3) if "train" in source.uri else chats(2)
        return SimpleNamespace(
            files=[write_jsonl(tmp_path / Path(source.uri).name, rows)], digest="sha256:x", source=source
        )

    raw = read_data(
        make_job(data={"train": [{"uri": "s3://data/train.jsonl"}, {"uri": "s3://data/train2.jsonl"}]}),
        fetch,
        allowed=CausalLanguageModeling.formats,
    )
    assert {name: len(examples) for name, examples in raw.examples.items()} == {
        "train": 6,
        "validation": 2,
        "test": 2,
        "general": 0,
    }
    assert [one.uri for one in raw.datasets] == [
        f"s3://data/{name}.jsonl" for name in ("train", "train2", "validation", "test")
    ]
    assert raw.examples["train"][0].place == "s3://data/train.jsonl line 1"


def test_files_of_a_folder_are_named_below_it() -> None:
    fetched = SimpleNamespace(
        files=[Path("/x/a.jsonl"), Path("/x/b.jsonl")], digest="", source=DataSource(uri="s3://data/all/")
    )
    assert [name for name, _ in named_files(fetched)] == ["s3://data/all/a.jsonl", "s3://data/all/b.jsonl"]
    assert labelled(2)[1]["label"] == "yes"
