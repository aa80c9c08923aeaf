"""The examples' models and data, which `make assets` derives from packages."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

ASSETS = Path(os.environ.get("TRIMTAB_CACHE", Path.home() / ".cache" / "trimtab")) / "assets"


def link_assets(root: Path, *, stand_ins: Mapping[str, str] | None = None) -> Path:
    """`s3://trimtab/assets/...` below `root`, as `MemoryStorage` reads it; some models in the place of others."""
    if not (ASSETS / "data" / "sums").is_dir():
        pytest.fail("The examples' models and data are not there: run `make assets` first")
    here = root / "trimtab" / "assets"
    (here / "models").mkdir(parents=True)
    (here / "data").symlink_to(ASSETS / "data")
    for model in (ASSETS / "models").iterdir():
        (here / "models" / model.name).symlink_to(ASSETS / "models" / (stand_ins or {}).get(model.name, model.name))
    return here
