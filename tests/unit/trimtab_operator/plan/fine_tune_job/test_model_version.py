"""The ModelVersion that a job makes."""

from typing import Any

import pytest
from tests.support.builders import SHA, make_job, make_report, make_version, success
from tests.support.world import World

from trimtab_operator.api.v1alpha1 import ModelVersion


def complete(world: World) -> tuple[ModelVersion, dict[str, Any]]:
    world.settle().advance(1).run().advance(6)
    datasets = [{"uri": "s3://data/train.jsonl", "digest": "sha256:1", "examples": 9}]
    world.say(
        make_report(
            datasets=datasets,
            modelDigest="sha256:2",
            metrics=[{"name": "loss", "value": "1"}, {"name": "eval_loss", "value": "9"}],
        )
    )
    world.reserve()
    world.advance(6).succeed(success())
    return world.versions["support-tone-v1"], world.created[-1]


def test_version() -> None:
    version, body = complete(World(make_job(output={"versionLabel": "spring"})))
    spec = version.spec
    assert "ownerReferences" not in body["metadata"], "it outlives its job"
    assert (spec.model_name, spec.version, spec.version_label) == ("support-tone", 1, "spring")
    assert spec.source is not None
    assert (spec.source.name, spec.source.attempt, spec.source.step) == ("tone", 1, 60)
    assert (spec.base_model.uri, spec.base_model.digest) == ("s3://models/smollm2", f"sha256:{SHA}")
    assert (spec.storage, spec.profile) == ("default", "cpu-small")
    assert spec.lineage.image_digest == "registry@sha256:1"
    assert [dataset.digest for dataset in spec.lineage.datasets] == ["sha256:1"]
    assert {metric.name: metric.value for metric in spec.metrics} == {"loss": "1", "eval_loss": "0.5"}
    assert spec.verified_at


@pytest.mark.parametrize(
    ("kind", "uri"),
    [
        pytest.param("peftAdapter", "s3://models/smollm2", id="an adapter stands on its base"),
        pytest.param("safetensors", "s3://bucket/demo/models/support-tone/1", id="a whole model is the base"),
    ],
)
def test_a_version_of_a_version(kind: str, uri: str) -> None:
    parent = make_version(7, artifact={"format": kind})
    version, _ = complete(World(make_job(model={"uri": "modelversion://support-tone-v7"}), base_version=parent))
    assert version.spec.base_model.uri == uri
    assert version.spec.lineage.parent_version == "support-tone-v7"
