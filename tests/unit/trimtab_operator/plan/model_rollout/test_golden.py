"""tests/golden/rollout-*: rollout.yaml, version.yaml and profiles.yaml give the children in expected.yaml.

After a change that is meant: TRIMTAB_UPDATE_GOLDEN=1 pytest <this file>, then read the diff.
"""

import os
from pathlib import Path

import pytest
import yaml
from tests.support.manifests import GOLDEN, dump_all
from tests.support.rollouts import observed, plan_for

from trimtab_operator.api.v1alpha1 import ModelRollout, ModelVersion, StorageProfile, TrainingProfile
from trimtab_operator.state import ObservedRoute

CASES = sorted(folder.name for folder in GOLDEN.glob("rollout-*"))


@pytest.mark.parametrize("case", CASES)
def test_children(case: str) -> None:
    folder: Path = GOLDEN / case
    profile, storage = yaml.safe_load_all((folder / "profiles.yaml").read_text())
    rollout = ModelRollout.parse(yaml.safe_load((folder / "rollout.yaml").read_text()))
    world = observed(
        rollout=rollout,
        route=ObservedRoute() if rollout.spec.serving.gateway else None,
        versions=(ModelVersion.parse(yaml.safe_load((folder / "version.yaml").read_text())),),
        profile=TrainingProfile.parse(profile),
        storage=StorageProfile.parse(storage),
    )
    children = dump_all(plan_for(world).apply)
    expected = folder / "expected.yaml"
    if os.environ.get("TRIMTAB_UPDATE_GOLDEN"):
        expected.write_text(children)
    assert children == expected.read_text()
