"""Tiny models, made once."""

from pathlib import Path

import pytest
from tests.support.published_tasks import WRITERS
from tests.support.serving import FolderSource, save_models


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return save_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def source(folders: dict[str, Path]) -> FolderSource:
    return FolderSource(folders["base"], folders)


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Base models of tasks."""
    root = tmp_path_factory.mktemp("bases")
    return {name: write(root / name) for name, write in WRITERS.items()}
