"""When a Job looks at a ModelVersion, what it is told, and what becomes of its answer."""

import json
from typing import Any

import pytest
from tests.support.builders import (
    NOW,
    SETTINGS,
    SHA,
    make_profile,
    make_version,
    published,
)
from tests.support.manifests import smallest
from tests.support.version_world import VersionWorld

from trimtab_operator.api.times import format_time
from trimtab_operator.api.v1alpha1 import ModelRollout, ModelVersion, Reason
from trimtab_operator.plan.champion import champion
from trimtab_operator.state import Manifest, Plan, RejectedWrite
from trimtab_trainer.contract.run_config import VersionJobConfig

TRAINED: dict[str, Any] = {
    "source": {"name": "tone", "uid": "1", "attempt": 1, "step": 60},
    "verifiedAt": "2026-11-21T12:00:00Z",
}
EVALUATION: dict[str, Any] = {
    "gates": [{"metric": "accuracy", "successCondition": "result > champion"}],
    "data": {"train": [{"uri": "s3://data/train.jsonl"}], "test": [{"uri": "pvc://claim/test.jsonl"}]},
}
PASSED = {"name": "accuracy on test", "metric": "accuracy", "source": "test", "phase": "Skipped"}
VERIFY = "trimtab.dev/verify"


def config_of(job: Manifest) -> VersionJobConfig:
    annotations = job["spec"]["template"]["metadata"]["annotations"]
    return VersionJobConfig.model_validate_json(annotations["trimtab.dev/version-job"])


@pytest.mark.parametrize(
    ("version", "annotations", "expected"),
    [
        pytest.param(make_version(**TRAINED), {}, None, id="its trainer has read it back"),
        pytest.param(make_version(), {}, False, id="an import is read back"),
        pytest.param(make_version(evaluation=EVALUATION), {}, True, id="an import with gates is measured"),
        pytest.param(make_version(**TRAINED, evaluation=EVALUATION, gates=[PASSED]), {}, None, id="its trainer has measured it"),
        pytest.param(make_version(**TRAINED), {"verify": "1"}, False, id="asked to verify"),
        pytest.param(make_version(**TRAINED), {"evaluate": "1"}, None, id="nothing to measure"),
        pytest.param(make_version(**TRAINED, evaluation=EVALUATION, gates=[PASSED]), {"evaluate": "1"}, True, id="asked to measure"),
    ],
)  # fmt: skip
def test_whether_a_job_looks_at_it(
    version: ModelVersion, annotations: dict[str, str], *, expected: bool | None
) -> None:
    world = VersionWorld(version).annotate(**annotations)
    measures = [config_of(job).evaluate is not None for job in world.jobs.values()]
    assert measures == ([] if expected is None else [expected])


def test_each_new_value_is_a_job_and_an_answered_one_is_none() -> None:
    world = VersionWorld(make_version(**TRAINED)).annotate(verify="1").look()
    assert len(world.jobs) == 1
    world.end(words={"reason": "Succeeded", "verification": {"holds": True, "message": "3 files, 12 bytes."}})
    assert world.said("Verified") == ("True", Reason.BYTES_VERIFIED)
    first = set(world.jobs)
    assert set(world.look().jobs) == first
    assert world.annotate().plan == Plan(), "an annotation that was taken away asks for nothing"
    assert set(world.annotate(verify="2").jobs).isdisjoint(first), "the old Job goes when another is made"


def test_a_signature_that_does_not_hold_is_told_as_that() -> None:
    keys = ["-----BEGIN PUBLIC KEY-----\nabc=\n-----END PUBLIC KEY-----\n"]
    signature = {"keyId": SHA, "sha256": SHA}
    profile = make_profile(signing={"publicKeys": keys, "required": True})
    world = VersionWorld(make_version(**TRAINED, signature=signature), profile=profile).annotate(verify="1")
    config = config_of(next(iter(world.jobs.values())))
    assert (config.signatures.public_keys, config.signed) == (keys, True)
    found = {"holds": False, "message": "The signature of support-tone-v1 does not hold."}
    world.end(words={"reason": "SignatureInvalid", "message": "x", "verification": found}, code=19, complete=False)
    assert world.said("Verified") == ("False", Reason.SIGNATURE_INVALID)
    assert "does not hold" in world.message("Verified")


def test_a_tampered_file_is_named_and_stays_so_until_the_next_look() -> None:
    world = VersionWorld(make_version(**TRAINED)).annotate(verify="1")
    found = {"holds": False, "message": "adapter_model.safetensors has sha256 aa, and its manifest says bb."}
    world.end(words={"reason": "DigestMismatch", "verification": found}, code=16, complete=False)
    assert world.said("Verified") == ("False", Reason.DIGEST_MISMATCH)
    assert world.said("Ready") == ("False", Reason.DIGEST_MISMATCH)
    assert world.said("Stalled") == ("True", Reason.DIGEST_MISMATCH)
    assert "adapter_model.safetensors" in world.message("Verified")
    world.annotate(verify="2")
    assert world.said("Verified") == ("False", Reason.DIGEST_MISMATCH)
    world.end(words={"reason": "Succeeded", "verification": {"holds": True, "message": "ok"}})
    assert world.said("Verified") == ("True", Reason.BYTES_VERIFIED)
    assert world.said("Ready") == ("True", Reason.AVAILABLE)


def test_a_job_that_cannot_read_the_store_proves_nothing() -> None:
    world = VersionWorld(make_version()).look()
    world.end(words={"reason": "StorageAccessDenied", "message": "no."}, code=21, complete=False)
    assert world.said("Verified") == ("Unknown", Reason.STORAGE_ACCESS_DENIED)
    assert VERIFY in world.message("Verified")
    assert world.look().plan == Plan(), "it is not tried for ever"


def test_a_look_that_finds_nothing_out_leaves_what_was_known() -> None:
    world = VersionWorld(make_version(**TRAINED)).annotate(verify="1")
    world.end(
        words={"reason": "DigestMismatch", "verification": {"holds": False, "message": "x."}}, code=16, complete=False
    )
    world.annotate(verify="2").end(words={"reason": "StorageUnavailable", "message": "no."}, code=30, complete=False)
    assert world.said("Verified") == ("False", Reason.DIGEST_MISMATCH)
    assert world.look().plan == Plan(), "it is not tried for ever"


def test_a_result_that_went_with_its_pod_is_waited_for_and_then_said() -> None:
    world = VersionWorld(make_version()).look()
    world.end(words=None)
    assert world.said("Verified") == ("Unknown", Reason.VERIFYING)
    assert world.plan.requeue_after is not None
    world.seconds = 60
    assert world.look().said("Verified") == ("Unknown", Reason.RESULT_LOST)


def test_a_new_measurement_outranks_the_record() -> None:
    failed = PASSED | {"phase": "Failed", "holdsBack": True}
    world = VersionWorld(make_version(2, **TRAINED, evaluation=EVALUATION, gates=[failed])).look()
    assert world.said("Promotable") == ("False", Reason.GATE_FAILED)
    world.annotate(evaluate="new data")
    numbers = {"gates": [{"result": "0.9", "champion": "0.8"}], "champion": "support-tone-v1"}
    world.end(words={"reason": "Succeeded", "verification": {"holds": True, "message": "ok"}} | numbers)
    assert world.said("Promotable") == ("True", Reason.PROMOTABLE)
    assert "0.9, must be > champion = 0.8" in world.message("Promotable")
    assert world.version.status.evaluation is not None
    assert world.version.status.evaluation.champion == "support-tone-v1"


def test_a_measurement_that_fails_leaves_the_record_as_it_is() -> None:
    world = VersionWorld(make_version(**TRAINED, evaluation=EVALUATION, gates=[PASSED])).annotate(evaluate="1")
    world.end(words={"reason": "DatasetNotFound", "message": "gone"}, code=11, complete=False)
    assert world.said("Promotable") == ("True", Reason.PROMOTABLE)
    imported = VersionWorld(make_version(evaluation=EVALUATION)).look()
    imported.end(words={"reason": "DatasetNotFound", "message": "gone"}, code=11, complete=False)
    assert imported.said("Promotable") == ("False", Reason.DATASET_NOT_FOUND)


def test_what_keeps_the_job_from_running_is_said() -> None:
    assert VersionWorld(make_version(), profile=None).look().said("Stalled") == ("True", Reason.PROFILE_NOT_FOUND)
    refused = RejectedWrite(Reason.QUOTA_EXCEEDED, "no quota", "Job", NOW)
    assert VersionWorld(make_version(), rejected=refused).look().said("Stalled") == ("True", Reason.QUOTA_EXCEEDED)


def test_the_pod_of_an_evaluation() -> None:
    rival = make_version(1, baseModel={"uri": "pvc://models/base"}, status={"conditions": [promotable()]})
    version = make_version(2, **TRAINED, evaluation=EVALUATION, gates=[PASSED])
    world = VersionWorld(version, siblings=(rival, version)).annotate(evaluate="1")
    (job,) = world.jobs.values()
    config = config_of(job)
    assert config.evaluate is not None
    assert config.evaluate.champion is not None
    assert config.evaluate.champion.name == "support-tone-v1"
    pod = job["spec"]["template"]["spec"]
    claims = [
        volume["persistentVolumeClaim"]["claimName"] for volume in pod["volumes"] if "persistentVolumeClaim" in volume
    ]
    assert claims == ["claim", "models"]
    assert pod["containers"][0]["resources"]["requests"]["memory"] == "4Gi"
    assert "trimtab.dev/managed" in job["spec"]["template"]["metadata"]["labels"]
    assert json.dumps(job)


def test_a_gated_base_model_is_opened_by_the_secret_that_the_version_names() -> None:
    gated = {"uri": "hf://org/model", "secretName": "hub-token"}
    (job,) = VersionWorld(make_version(2, **TRAINED, baseModel=gated, evaluation=EVALUATION)).look().jobs.values()
    secrets = [each["secret"]["secretName"] for each in job["spec"]["template"]["spec"]["volumes"] if "secret" in each]
    assert "hub-token" in secrets


def test_the_pod_that_only_verifies_is_small_and_runs_no_custom_image() -> None:
    profile = make_profile(image="custom:1", command=["train"])
    (job,) = VersionWorld(make_version(), profile=profile).look().jobs.values()
    container = job["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == SETTINGS.trainer_image
    assert container["resources"]["requests"]["memory"] == "256Mi"


IMPORT: dict[str, Any] = {"artifact": None, "importFrom": {"uri": "s3://lake/adapter", "format": "peftAdapter"}}


def test_an_import_is_ready_when_its_copy_is_published() -> None:
    world = VersionWorld(make_version(**IMPORT)).look()
    assert world.said("Ready") == ("False", Reason.IMPORTING)
    assert world.said("Reconciling") == ("True", Reason.IMPORTING)
    assert world.said("Stalled")[0] == "False"
    (job,) = world.jobs.values()
    source = config_of(job).import_from
    assert source is not None
    assert (source.uri, source.version, source.uid) == ("s3://lake/adapter", 1, "version-1")
    copy = published(1).model_dump(mode="json", by_alias=True)
    world.end(words={"reason": "Succeeded", "verification": {"holds": True, "message": "ok"}, "published": copy})
    assert world.said("Ready") == ("True", Reason.AVAILABLE)
    assert world.said("Verified") == ("True", Reason.BYTES_VERIFIED)
    assert world.version.published.uri == copy["uri"]
    assert world.look().plan == Plan()
    again = world.annotate(verify="1")
    assert config_of(list(again.jobs.values())[-1]).version is not None, "the copy is read back, not made again"


def test_an_import_that_fails_says_why_and_is_tried_again_on_request() -> None:
    world = VersionWorld(make_version(**IMPORT)).look()
    world.end(words={"reason": "ModelInvalid", "message": "it is no adapter of peft."}, code=14, complete=False)
    assert world.said("Ready") == ("False", Reason.NOT_AVAILABLE)
    assert world.said("Stalled")[0] == "True"
    assert "it is no adapter of peft." in world.message("Ready")
    assert config_of(list(world.annotate(verify="2").jobs.values())[-1]).import_from is not None
    assert world.said("Reconciling")[0] == "True"


def promotable(status: str = "True", kind: str = "Promotable") -> dict[str, str]:
    return {"type": kind, "status": status, "reason": "Promotable", "lastTransitionTime": format_time(NOW)}


def serving(stable: int | None) -> ModelRollout:
    status = {} if stable is None else {"stableVersion": stable}
    return ModelRollout.parse(smallest("ModelRollout") | {"status": status})


GOOD = {"conditions": [promotable()]}
BAD = {"conditions": [promotable("False")]}
BROKEN = {"conditions": [promotable(), promotable("False", "Verified")]}


@pytest.mark.parametrize(
    ("statuses", "stable", "but", "expected"),
    [
        pytest.param([], None, "", None, id="nobody"),
        pytest.param([GOOD, GOOD, BAD], None, "", 2, id="the newest promotable one"),
        pytest.param([GOOD, BROKEN], None, "", 1, id="not one with other bytes"),
        pytest.param([GOOD, GOOD], 1, "", 1, id="the one that serves"),
        pytest.param([GOOD, GOOD], 2, "support-tone-v2", None, id="who serves has nobody to beat"),
        pytest.param([GOOD, GOOD], None, "support-tone-v2", 1, id="not itself"),
    ],
)
def test_the_champion(statuses: list[Any], stable: int | None, but: str, expected: int | None) -> None:
    versions = [make_version(number, status=status) for number, status in enumerate(statuses, 1)]
    found = champion(versions, [serving(stable)], but=but)
    assert (found.spec.version if found else None) == expected
