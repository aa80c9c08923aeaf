"""tests/golden/<case>: job.yaml and profiles.yaml give the children in expected.yaml.

After a change that is meant: TRIMTAB_UPDATE_GOLDEN=1 pytest <this file>, then read the diff.
"""

import json
import os

import pytest
import yaml
from tests.support.manifests import GOLDEN, dump_all
from tests.support.world import World

from trimtab_operator.api.v1alpha1 import FineTuneJob, StorageProfile, TrainingProfile
from trimtab_trainer.contract.run_config import RunConfig

CASES = sorted(folder.name for folder in GOLDEN.iterdir() if (folder / "job.yaml").is_file())


@pytest.mark.parametrize("case", CASES)
def test_children(case: str) -> None:
    folder = GOLDEN / case
    profile, storage = yaml.safe_load_all((folder / "profiles.yaml").read_text())
    world = World(
        FineTuneJob.parse(yaml.safe_load((folder / "job.yaml").read_text())),
        profile=TrainingProfile.parse(profile),
        storage=StorageProfile.parse(storage),
    ).settle()
    children = dump_all(world.created)
    expected = folder / "expected.yaml"
    if os.environ.get("TRIMTAB_UPDATE_GOLDEN"):
        expected.write_text(children)
    assert children == expected.read_text()
    (text,) = (child["data"]["run-config.json"] for child in world.created if child["kind"] == "ConfigMap")
    assert RunConfig.model_validate_json(text).to_sparse_json() == json.loads(text)
