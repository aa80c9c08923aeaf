"""What a run does with steps that diverge."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load
from tests.support.memory_storage import MemoryStorage, MemoryWriter
from tests.support.training import make_job, run_job

from trimtab_trainer.contract.exit_codes import ExitCode, TrainerReason
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.model import TrainableModel


def break_gradients(patch: pytest.MonkeyPatch, *steps: int) -> None:
    """As an overflow would, at the n-th steps."""
    taken = iter(range(1, 100))
    real = TrainableModel.sum_gradients

    def broken(model: TrainableModel, parameters: list[torch.nn.Parameter]) -> None:
        real(model, parameters)
        if next(taken) in steps:
            parameters[0].grad.fill_(math.nan)  # type: ignore[union-attr]

    patch.setattr(TrainableModel, "sum_gradients", broken)


def test_a_step_that_is_not_finite_is_left_out_counted_and_told(
    storage: MemoryStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_gradients(monkeypatch, 3)
    ended = run_job(make_job(training={"divergence": {"onSpike": "Skip"}}), tmp_path / "run")
    assert ended.code == ExitCode.SUCCEEDED, ended.message.message
    assert [line.get("skipped_steps", 0) for line in storage.history if "learning_rate" in line] == [0, 0, 1, 1, 1, 1]
    assert "loss" not in next(line for line in storage.history if line["step"] == 3 and "learning_rate" in line)
    assert ended.report.warnings == ["1 of 6 steps diverged and were left out."]
    assert json.loads(storage.objects["report.json"])["skippedSteps"] == 1
    assert all(torch.isfinite(tensor).all() for tensor in load(storage.checkpoints[6][1]).values())


def test_too_many_in_a_row_end_the_run(storage: MemoryStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    break_gradients(monkeypatch, 2, 3, 4)
    settings = {"divergence": {"onSpike": "Skip", "maxSkippedInARow": 2}}
    ended = run_job(make_job(training=settings), tmp_path / "run")
    assert (ended.code, ended.message.step, storage.published) == (ExitCode.LOSS_DIVERGED, 3, {})
    assert "3 skipped steps in a row" in ended.message.message


def test_a_store_that_fails_beside_it_does_not_hide_why_a_run_ended(
    storage: MemoryStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise TrainerError(TrainerReason.STORAGE_UNAVAILABLE, "the checkpoint of step 2 was not uploaded in 60 s")

    monkeypatch.setattr(MemoryWriter, "wait", fail)
    break_gradients(monkeypatch, 3)
    ended = run_job(make_job(), tmp_path / "run")
    assert ended.code == ExitCode.LOSS_DIVERGED
    assert storage.saved_steps == [2]


def test_weights_that_the_last_step_broke_are_not_published(
    storage: MemoryStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trimtab_trainer.train.learning_rate", lambda step, **_: 1e39 if step == 5 else 1e-3)
    ended = run_job(make_job(data={"validation": [], "test": []}), tmp_path / "run")
    assert (ended.code, storage.published) == (ExitCode.LOSS_DIVERGED, {})
    assert "The weights of step 6 are not finite" in ended.message.message
