"""Tiny models, made once."""

from pathlib import Path

import pytest

from trimtab_trainer.quota import limit_threads

limit_threads()  # before torch is imported: spinning threads are slow beside other tests

from tests.support import serving  # noqa: E402
from tests.support.published_tasks import WRITERS  # noqa: E402
from tests.support.serving import FolderSource  # noqa: E402


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A base model `base`, three adapters `tone-v1` to `tone-v3`, and a whole model `tone-v9`."""
    root = tmp_path_factory.mktemp("models")
    made = {"base": serving.save_llama(root / "base")}
    for number in (1, 2, 3):
        made[f"tone-v{number}"] = serving.save_adapter(root / f"v{number}", made["base"], seed=number)
    made["tone-v9"] = serving.save_llama(root / "v9", seed=9)
    return made


@pytest.fixture
def source(folders: dict[str, Path]) -> FolderSource:
    return FolderSource(folders["base"], folders)


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Base models of tasks."""
    root = tmp_path_factory.mktemp("bases")
    return {name: write(root / name) for name, write in WRITERS.items()}
