"""For tests that train something small."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tests.support.training import MemoryStorage


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Several threads only wait for each other where matrices are this small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def storage(job_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryStorage:
    """Store, models and data of whole jobs in this process."""
    for name in ("models", "data"):
        (tmp_path / name).symlink_to(job_files / name)
    storage = MemoryStorage(tmp_path)
    storage.install(monkeypatch)
    return storage
