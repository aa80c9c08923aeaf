"""Whole runs of Trimtab's trainer in this process, for benchmarks inside the trainer image."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.support.memory_storage import MemoryStorage
from tests.support.training import End, make_job, run_job

from trimtab_trainer.contract.exit_codes import ExitCode

BASE = "s3://models/base"
"""Where `store_of` has the model."""


@contextmanager
def store_of(model: Path, data: Path) -> Iterator[MemoryStorage]:
    """A store with a model at `BASE` and the files of a folder below `s3://data`; gone afterwards."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        root = Path(folder)
        (root / "data").symlink_to(data)
        (root / "models").mkdir()
        (root / "models" / "base").symlink_to(model)
        storage = MemoryStorage(root)
        storage.install(patch)
        yield storage


def completed(document: dict[str, Any], storage: MemoryStorage) -> End:
    """Run a RunConfig to its end.

    Raises:
        SystemExit: with the trainer's last words, where it does not succeed.
    """
    end = run_job(type(make_job()).model_validate(document), storage.root / "scratch")
    if end.code != ExitCode.SUCCEEDED:
        raise SystemExit(end.message.message)
    return end
