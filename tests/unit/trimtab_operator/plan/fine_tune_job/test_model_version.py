"""The ModelVersion that a job makes."""

from typing import Any

import pytest
from tests.support.builders import (
    SETTINGS,
    SHA,
    make_job,
    make_profile,
    make_report,
    make_storage,
    make_version,
    observed,
    success,
)
from tests.support.world import World

from trimtab_operator.api.v1alpha1 import FineTuneJob, ModelVersion
from trimtab_operator.plan.fine_tune_job.config_map import run_config
from trimtab_trainer.contract.gates import GateMeasurement
from trimtab_trainer.contract.manifests import config_sha256, run_identity
from trimtab_trainer.contract.run_config import RunConfig


def complete(world: World, **words: Any) -> tuple[ModelVersion, dict[str, Any]]:
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
    world.advance(6).succeed(success(**words))
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
    assert (spec.max_sequence_length, spec.base_model.secret_name) == (512, "")


def test_a_version_of_a_gated_model_says_what_opens_it() -> None:
    version, _ = complete(World(make_job(model={"uri": "hf://org/model", "secretName": "hub-token"})))
    assert (version.spec.base_model.uri, version.spec.base_model.secret_name) == ("hf://org/model", "hub-token")


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


def test_gates_are_judged_and_kept_with_what_it_takes_to_measure_again() -> None:
    gate = {"metric": "perplexity", "source": "general", "successCondition": "result <= baseline * 1.05"}
    data = {"train": [{"uri": "s3://data/train.jsonl"}], "general": [{"uri": "s3://data/general.jsonl"}]}
    world = World(make_job(evaluation={"gates": [gate]}, data=data))
    version, _ = complete(world, gates=[GateMeasurement(result="31.2", baseline="22.95")])
    (result,) = version.spec.gates
    assert (result.phase, result.holds_back, result.result, result.baseline) == ("Failed", True, "31.2", "22.95")
    assert version.spec.evaluation is not None
    assert [source.uri for source in version.spec.evaluation.data.general] == ["s3://data/general.jsonl"]
    assert version.spec.evaluation.gates == world.job.spec.evaluation.gates
    evaluated = world.status.condition("Evaluated")
    assert (evaluated.status, evaluated.reason) == ("True", "NotPromotable")
    assert "perplexity on general is 31.2, must be <= baseline * 1.05 = 24.1" in evaluated.message
    assert world.status.is_true("Complete"), "a version that fails a gate is published all the same"


def test_the_trainer_is_told_whom_to_beat() -> None:
    good = {
        "type": "Promotable",
        "status": "True",
        "reason": "Promotable",
        "lastTransitionTime": "2026-11-21T12:00:00Z",
    }
    rival = make_version(3, status={"conditions": [good]})
    gates = {"gates": [{"metric": "accuracy", "successCondition": "result > champion"}]}
    seen = observed(make_job(evaluation=gates), rivals=(rival,))
    config = run_config(seen, 1, profile=make_profile().spec, storage=make_storage().spec, settings=SETTINGS)
    assert config.champion is not None
    assert (config.champion.name, config.champion.artifact_uri) == ("support-tone-v3", rival.spec.artifact.uri)


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({}, id="the smallest"),
        pytest.param(
            {
                "method": {"lora": {"r": 4, "alpha": 8}},
                "training": {"learningRate": 0.01, "schedule": {"linear": {"warmupRatio": 0.1}}, "maxSteps": 7},
                "data": {"maxSequenceLength": 64, "packing": False},
                "checkpoints": {"everySteps": 5, "keepLast": 4},
                "output": {"versionLabel": "spring", "sign": True, "signingSecretName": "key"},
            },
            id="much is set",
        ),
    ],
)
def test_what_the_provenance_holds_makes_the_same_run_again(spec: dict[str, Any]) -> None:
    """docs/provenance.md: `externalParameters` as the spec of a new job."""

    def config_of(job: FineTuneJob) -> RunConfig:
        profile, storage = make_profile().spec, make_storage().spec
        return run_config(observed(job), 1, profile=profile, storage=storage, settings=SETTINGS)

    first = config_of(make_job(**spec))
    again = make_job(name="again")
    body = {**again.to_json(), "spec": run_identity(first)}
    second = config_of(FineTuneJob.parse(body))
    assert config_sha256(second) == config_sha256(first)
    assert second.training == first.training
