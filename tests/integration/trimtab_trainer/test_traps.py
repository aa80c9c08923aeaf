"""Mistakes that training programs are known for, each with the whole job that would make it."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.memory_storage import MemoryStorage
from tests.support.rows import chats, write_jsonl
from tests.support.training import CountedStop, make_job, run_job

from trimtab_trainer import evaluate, prepare
from trimtab_trainer.contract.exit_codes import ExitCode
from trimtab_trainer.interruption import Interruption


@pytest.fixture
def storage(job_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryStorage:
    (tmp_path / "models").symlink_to(job_files / "models")
    (tmp_path / "data").mkdir()
    for file in (job_files / "data").iterdir():
        (tmp_path / "data" / file.name).symlink_to(file)
    storage = MemoryStorage(tmp_path)
    storage.install(monkeypatch)
    return storage


def long_prompts(count: int) -> list[dict[str, Any]]:
    """Nothing but the prompt is left within 128 tokens."""
    return [
        {"messages": [{"role": "user", "content": f"{number} " * 90}, {"role": "assistant", "content": "yes"}]}
        for number in range(count)
    ]


def test_the_same_seed_gives_the_same_losses_and_weights_and_another_seed_others(
    storage: MemoryStorage, tmp_path: Path
) -> None:
    found = []
    for seed in (7, 7, 8):
        storage.checkpoints.clear()
        training = {"seed": seed, "embeddingNoiseAlpha": 5, "dropout": 0.1}
        assert run_job(make_job(training=training), tmp_path / f"run-{len(found)}").code == ExitCode.SUCCEEDED
        found.append((storage.history, storage.checkpoints[6][1]))
    assert found[0] == found[1]
    assert found[0][0] != found[2][0]


def test_everything_that_a_repetition_needs_is_in_the_report(storage: MemoryStorage, tmp_path: Path) -> None:
    run_job(make_job(training={"seed": 7}), tmp_path / "run")
    text = storage.objects["report.json"].decode()
    for words in (
        '"seed": "7"',
        '"torch":',
        '"transformers":',
        '"threads":',
        '"processor":',
        '"modelDigest":',
        '"digest":',
    ):
        assert words in text


def test_examples_whose_every_label_is_masked_are_left_out_and_told(storage: MemoryStorage, tmp_path: Path) -> None:
    """A batch of them would report a loss of 0, or divide by it."""
    write_jsonl(tmp_path / "data" / "long.jsonl", [*long_prompts(6), *chats(12)])
    ended = run_job(make_job(data={"train": [{"uri": "s3://data/long.jsonl"}], "packing": False}), tmp_path / "run")
    assert ended.code == ExitCode.SUCCEEDED, ended.message.message
    train = next(one for one in ended.report.data if one.split == "train")
    assert (train.examples, train.unsupervised) == (12, 6)
    assert all(line["loss"] > 0.5 for line in storage.history if "learning_rate" in line)


def test_a_data_set_of_nothing_else_is_refused(storage: MemoryStorage, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "data" / "long.jsonl", long_prompts(6))
    ended = run_job(make_job(data={"train": [{"uri": "s3://data/long.jsonl"}]}), tmp_path / "run")
    assert ended.code == ExitCode.DATASET_INVALID
    assert "have no token that carries loss within `maxSequenceLength`" in ended.message.message


def test_nothing_is_cut_in_silence(storage: MemoryStorage, tmp_path: Path) -> None:
    long = [{"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "word " * 80}]}]
    write_jsonl(tmp_path / "data" / "cut.jsonl", [*long, *chats(12)])
    ended = run_job(make_job(data={"train": [{"uri": "s3://data/cut.jsonl"}]}), tmp_path / "run")
    words = "1 of 13 train examples are longer than maxSequenceLength (128) and were cut."
    assert words in ended.report.warnings
    assert words in storage.objects["report.md"].decode()


def test_bfloat16_on_a_processor_without_it_is_told(
    storage: MemoryStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "has_bfloat16_units", lambda: False)
    ended = run_job(make_job(training={"precision": "bfloat16"}), tmp_path / "run")
    assert any("about three times slower than float32" in warning for warning in ended.report.warnings)


def test_sigterm_in_the_middle_of_an_evaluation_saves_the_step_before_it(
    storage: MemoryStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_job(checkpoints={"everySteps": None}, training={"evaluateEverySteps": 3})
    assert run_job(config, tmp_path / "whole").code == ExitCode.SUCCEEDED
    expected = storage.history
    storage.checkpoints.clear()
    stop, measurements, real = CountedStop(), iter(range(100)), evaluate.measure

    def measured(*arguments: Any) -> Any:
        found = real(*arguments)
        if storage_is_training() and next(measurements) == 0:
            stop._term_at = stop.looks
        return found

    def storage_is_training() -> bool:
        return stop.looks > 6  # the evaluation before the first step is over

    monkeypatch.setattr(evaluate, "measure", measured)
    ended = run_job(config, tmp_path / "stopped", stop=stop)
    assert (ended.code, ended.message.step, storage.saved_steps[-1]) == (ExitCode.INTERRUPTED, 3, 3)
    assert json.loads(storage.checkpoints[3][0])["evaluated_step"] == 0
    monkeypatch.undo()
    storage.install(monkeypatch)
    assert run_job(config, tmp_path / "resumed").code == ExitCode.SUCCEEDED
    assert storage.history == expected


def test_sigterm_while_data_is_read_ends_the_run_at_once(
    storage: MemoryStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal's handler raises wherever Python is, as long as nothing is worth saving."""

    def interrupted(*_: Any, **__: Any) -> Any:
        raise Interruption("SIGTERM")

    monkeypatch.setattr(prepare, "read_data", interrupted)
    ended = run_job(make_job(), tmp_path / "run")
    assert (ended.code, storage.checkpoints) == (ExitCode.INTERRUPTED, {})
    assert "nothing to save" in ended.message.message
