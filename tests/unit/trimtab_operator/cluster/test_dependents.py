"""What needs a version's bytes besides rollouts."""

from typing import Any

import pytest
from tests.support.manifests import changed, smallest

from trimtab_operator.api.v1alpha1 import ModelVersion
from trimtab_operator.cluster.dependents import dependents
from trimtab_operator.cluster.store import Store
from trimtab_operator.cluster.trim import Stored

URI = "s3://bucket/demo/models/support-tone/1"
FROM_IT = {"spec.model": {"uri": "modelversion://support-tone-v1"}}


def stored(kind: str, name: str, changes: dict[str, Any], status: dict[str, Any] | None = None) -> Stored:
    given = {"metadata.name": name, "metadata.uid": f"uid-{name}", "metadata.resourceVersion": "7"}
    return Stored.of(changed(smallest(kind), given | changes) | {"status": status or {}})


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        pytest.param(stored("FineTuneJob", "next", FROM_IT, {"state": "Running"}), ["FineTuneJob next"], id="a job starts from it"),
        pytest.param(stored("FineTuneJob", "next", FROM_IT), ["FineTuneJob next"], id="or is about to"),
        pytest.param(stored("FineTuneJob", "next", FROM_IT, {"state": "Complete"}), [], id="a job has started from it and ended"),
        pytest.param(stored("FineTuneJob", "next", FROM_IT | {"metadata.namespace": "other"}), [], id="another namespace's version of that name"),
        pytest.param(stored("FineTuneJob", "next", {}), [], id="a job from another model"),
        pytest.param(stored("ModelVersion", "new-v1", {"spec.artifact.uri": URI + "1"}), [], id="other bytes"),
        pytest.param(stored("ModelVersion", "new-v1", {"spec.artifact.uri": "s3://b/x", "spec.baseModel": {"uri": URI}}), ["ModelVersion new-v1"], id="an adapter on it"),
        pytest.param(stored("ModelVersion", "new-v1", {}), ["ModelVersion new-v1"], id="the same bytes"),
        pytest.param(stored("ModelVersion", "new-v1", {"metadata.namespace": "prod"}), ["another namespace"], id="promoted elsewhere, whose name is not told"),
    ],
)  # fmt: skip
def test_dependents(other: Stored, expected: list[str]) -> None:
    store = Store()
    own = stored("ModelVersion", "support-tone-v1", {})
    for each in (own, other):
        store.put(each)
    version = ModelVersion.parse(own.body())
    assert list(dependents(store, version)) == expected
