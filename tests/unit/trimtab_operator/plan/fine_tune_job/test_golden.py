"""tests/golden/<case>: job.yaml and profiles.yaml give the children in expected.yaml.

After a change that is meant: TRIMTAB_UPDATE_GOLDEN=1 pytest <this file>, then read the diff.
"""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.world import World

from trimtab_operator.api.v1alpha1 import FineTuneJob, StorageProfile, TrainingProfile

GOLDEN = Path(__file__).parents[4] / "golden"
CASES = sorted(folder.name for folder in GOLDEN.iterdir() if (folder / "job.yaml").is_file())


class Dumper(yaml.SafeDumper):
    """YAML that a person can compare: documents in block style, no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


Dumper.add_representer(str, _text)


@pytest.mark.parametrize("case", CASES)
def test_children(case: str) -> None:
    folder = GOLDEN / case
    profile, storage = yaml.safe_load_all((folder / "profiles.yaml").read_text())
    world = World(
        FineTuneJob.parse(yaml.safe_load((folder / "job.yaml").read_text())),
        profile=TrainingProfile.parse(profile),
        storage=StorageProfile.parse(storage),
    ).settle()
    children = yaml.dump_all(world.created, Dumper=Dumper, sort_keys=True, width=160)
    expected = folder / "expected.yaml"
    if os.environ.get("TRIMTAB_UPDATE_GOLDEN"):
        expected.write_text(children)
    assert children == expected.read_text()
