"""A run whose memory is short: the step is taken again in smaller pieces."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.memory_storage import MemoryStorage
from tests.support.training import CountedStop, make_job, run_job

from trimtab_trainer.contract.exit_codes import ExitCode
from trimtab_trainer.tasks.language_modeling import LanguageModeling


def limit_rows(patch: pytest.MonkeyPatch, rows: int) -> None:
    """A machine whose memory suffices for so many examples in a training pass."""
    real = LanguageModeling.loss

    def limited(self: LanguageModeling, model: Any, batch: Any) -> torch.Tensor:
        if len(batch.counts) > rows:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(self, model, batch)

    patch.setattr(LanguageModeling, "loss", limited)


def test_the_micro_batch_is_halved_until_it_fits_and_stays_so_after_a_resume(
    storage: MemoryStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_job(data={"packing": False}, training={"microBatchSize": 4})
    plain = make_job(data={"packing": False}, training={"microBatchSize": 1})
    assert run_job(plain, tmp_path / "plain").code == ExitCode.SUCCEEDED
    expected = storage.history[1:]  # the base model was still measured in larger batches
    storage.checkpoints.clear()
    limit_rows(monkeypatch, 1)
    ended = run_job(config, tmp_path / "short", stop=CountedStop(term_at=20))
    assert ended.code == ExitCode.INTERRUPTED
    assert [warning.split(":")[0] for warning in ended.report.warnings] == [
        "Memory did not suffice at step 1 with a micro batch of 4",
        "Memory did not suffice at step 1 with a micro batch of 2",
    ]
    resumed = run_job(config, tmp_path / "resumed")
    assert (resumed.code, resumed.report.warnings) == (ExitCode.SUCCEEDED, [])
    assert storage.history[1:] == expected


def test_one_row_that_does_not_fit_ends_the_run(
    storage: MemoryStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_rows(monkeypatch, 0)
    ended = run_job(make_job(data={"packing": False}), tmp_path / "run")
    assert ended.code == ExitCode.OUT_OF_MEMORY
