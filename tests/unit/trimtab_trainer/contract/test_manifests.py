from typing import Any

import pytest
from pydantic import ValidationError
from tests.support.object_store import make_run_config, make_store

from trimtab_trainer.contract.manifests import (
    ModelManifest,
    canonical_json,
    config_sha256,
    manifest_key,
    parse_manifest_key,
)
from trimtab_trainer.contract.run_config import RunConfig

STORE = make_store("http://store")


def config_of(changes: dict[str, Any]) -> RunConfig:
    return make_run_config(STORE, changes=changes)


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        pytest.param({"attempt": 7}, True, id="attempt"),
        pytest.param({"checkpoints": {"keepLast": 9, "keepBest": 0}}, True, id="what retention keeps"),
        pytest.param({"store": {"endpoint": "http://elsewhere", "probe": True}}, True, id="store"),
        pytest.param({"pins": {"model": "sha256:" + "0" * 64}}, True, id="pins"),
        pytest.param({"image": "trainer:2", "memoryLimitBytes": 1}, True, id="image and limits"),
        pytest.param({"training": {"weightDecay": 0.0, "seed": 42}}, True, id="defaults, written out"),
        pytest.param({"job": {"uid": "uid-2"}}, True, id="job: manifests name it beside the digest"),
        pytest.param({"training": {"learningRate": 0.1}}, False, id="learning rate"),
        pytest.param({"training": {"seed": 43}}, False, id="seed"),
        pytest.param({"model": {"uri": "s3://models/other"}}, False, id="model"),
        pytest.param({"method": {"lora": {"r": 8}}}, False, id="method"),
        pytest.param({"data": {"maxSequenceLength": 64}}, False, id="data"),
        pytest.param({"checkpoints": {"everySteps": 7}}, False, id="when evaluations happen"),
        pytest.param({"distribution": {"nodes": 2}}, False, id="distribution"),
    ],
)
def test_what_makes_it_the_same_run(changes: dict[str, Any], *, same: bool) -> None:
    assert (config_sha256(config_of(changes)) == config_sha256(config_of({}))) == same


@pytest.mark.parametrize(
    ("key", "place"),
    [
        (manifest_key(STORE, config_of({}).job, attempt=12, step=345), (345, 12)),
        ("manifests/s000000001-a1.json", (1, 1)),
        ("manifests/s1-a1.json", None),
        ("manifests/s000000001-a1.json.tmp", None),
        ("a1/s1/state.json", None),
    ],
)
def test_a_manifests_key_tells_step_and_attempt(key: str, place: tuple[int, int] | None) -> None:
    assert parse_manifest_key(key) == place


MODEL: dict[str, Any] = {
    "schema": "trimtab.dev/model/v1",
    "modelName": "tone",
    "version": 1,
    "format": "peftAdapter",
    "baseModel": {"uri": "s3://models/base", "digest": "sha256:" + 64 * "0"},
    "lineage": {
        "job": {"namespace": "team", "name": "tone", "uid": "uid-1"},
        "attempt": 1,
        "step": 10,
        "datasets": [],
        "configDigest": "sha256:" + 64 * "1",
        "image": "trainer:1",
    },
    "files": [{"key": "a", "path": "a", "size": 1, "sha256": 64 * "2"}],
    "metrics": {},
    "createdAt": "2026-11-30T00:00:00Z",
}


def test_the_manifest_of_a_later_release_is_read() -> None:
    """A server of an older release, after the operator went back to it, serves what the newer one published."""
    later = MODEL | {"later": 1, "lineage": MODEL["lineage"] | {"later": [2.5]}}
    assert ModelManifest.parse(canonical_json(later)) == ModelManifest.parse(canonical_json(MODEL))


def test_a_manifest_of_another_schema_is_not_read() -> None:
    with pytest.raises(ValidationError, match="schema"):
        ModelManifest.parse(canonical_json(MODEL | {"schema": "trimtab.dev/model/v2"}))
