"""Signing: the key goes into the training pod and nowhere else; servers are told whose signatures to believe."""

import re
from typing import Any

import pytest
from tests.support import rollouts
from tests.support.builders import NOW, SETTINGS, SHA, make_job, make_profile, make_storage, make_version, observed

from trimtab_operator.api.v1alpha1 import Reason
from trimtab_operator.plan.fine_tune_job.config_map import config_text, run_config
from trimtab_operator.plan.fine_tune_job.trainer_job import trainer_job
from trimtab_operator.plan.model_rollout.compose import make_plan as make_rollout_plan
from trimtab_operator.state import Manifest, ObservedVersion, Plan
from trimtab_operator.status.model_version.compose import compute_status
from trimtab_operator.validation.fine_tune_job.compose import check
from trimtab_operator.validation.model_rollout.compose import check as check_rollout
from trimtab_trainer.contract.manifests import config_sha256

PROFILE = {"signing": {"secretName": "platform-key"}}
JOB_KEY = {"output": {"sign": True, "signingSecretName": "team-key"}}


def pod(job: dict[str, Any], profile: dict[str, Any]) -> Manifest:
    world, spec, storage = observed(make_job(**job)), make_profile(**profile).spec, make_storage().spec
    config = run_config(world, 1, profile=spec, storage=storage, settings=SETTINGS)
    made = trainer_job(world, config, config_text(config), profile=spec, storage=storage, settings=SETTINGS)
    found: Manifest = made["spec"]["template"]["spec"]
    return found


@pytest.mark.parametrize(
    ("job", "profile", "secret"),
    [
        pytest.param({}, PROFILE, "", id="nobody asked"),
        pytest.param({"output": {"sign": True}}, PROFILE, "platform-key", id="the profile's key"),
        pytest.param(JOB_KEY, PROFILE, "team-key", id="the job's key"),
        pytest.param(JOB_KEY, {}, "team-key", id="the job's key alone"),
    ],
)
def test_the_key_is_mounted(job: dict[str, Any], profile: dict[str, Any], secret: str) -> None:
    made = pod(job, profile)
    volumes = [volume["secret"] for volume in made["volumes"] if volume["name"] == "signing"]
    items = [{"key": "signing.key", "path": "signing.key"}]
    assert volumes == ([{"secretName": secret, "items": items, "optional": True}] if secret else [])
    places = [mount for mount in made["containers"][0]["volumeMounts"] if mount["name"] == "signing"]
    assert places == (
        [{"name": "signing", "mountPath": "/var/run/trimtab/signing", "readOnly": True}] if secret else []
    )


def test_to_sign_needs_a_key() -> None:
    problems = check(observed(make_job(output={"sign": True})), settings=SETTINGS)
    assert [problem.reason for problem in problems] == [Reason.SPEC_INVALID]
    assert "signingSecretName" in problems[0].message


REQUIRED = {
    "signing": {"publicKeys": ["-----BEGIN PUBLIC KEY-----\nabc=\n-----END PUBLIC KEY-----\n"], "required": True}
}
SIGNATURE = {"signature": {"keyId": SHA, "sha256": SHA}}


@pytest.mark.parametrize(
    ("profile", "version", "says"),
    [
        pytest.param({}, {}, "True Promotable", id="nobody demands it"),
        pytest.param(REQUIRED, {}, "False SignatureMissing", id="demanded and missing"),
        pytest.param(REQUIRED, SIGNATURE, "True Promotable", id="demanded and there"),
    ],
)
def test_a_version_without_the_demanded_signature_may_not_be_promoted(
    profile: dict[str, Any], version: dict[str, Any], says: str
) -> None:
    world = ObservedVersion(
        version=make_version(**version), storage=make_storage(), rollouts=(), profile=make_profile(**profile)
    )
    status = compute_status(world, (), Plan(), settings=SETTINGS, now=NOW).status
    found = {item["type"]: f"{item['status']} {item['reason']}" for item in status["conditions"]}
    assert found["Promotable"] == says


@pytest.mark.parametrize(
    ("profile", "version", "reasons"),
    [
        pytest.param({}, {}, [], id="nobody demands it"),
        pytest.param(REQUIRED, {}, [Reason.SIGNATURE_MISSING], id="demanded and missing"),
        pytest.param(REQUIRED, SIGNATURE, [], id="demanded and there"),
    ],
)
def test_a_rollout_waits_for_a_signature(
    profile: dict[str, Any], version: dict[str, Any], reasons: list[Reason]
) -> None:
    world = rollouts.observed(
        versions=(rollouts.make_version(1, {f"spec.{name}": value for name, value in version.items()}),),
        profile=rollouts.make_profile({f"spec.{name}": value for name, value in profile.items()}),
    )
    assert [problem.reason for problem in check_rollout(world, settings=SETTINGS)] == reasons


def test_servers_are_told_whom_to_believe() -> None:
    profile = rollouts.make_profile({"spec.signing": REQUIRED["signing"]})
    version = rollouts.make_version(1, {"spec.signature": SIGNATURE["signature"]})
    world = rollouts.observed(versions=(version,), profile=profile)
    plan = make_rollout_plan(world, (), settings=rollouts.SETTINGS, now=NOW)
    told = repr(plan)
    assert "BEGIN PUBLIC KEY" in told
    assert re.search(r"required\W+true", told), "unsigned versions are refused"
    assert re.search(r"signed\W+true", told), "a signature that is gone is missed"


def test_who_signs_does_not_make_it_another_run() -> None:
    spec, storage = make_profile().spec, make_storage().spec
    plain, signed = (
        run_config(observed(make_job(**job)), 1, profile=spec, storage=storage, settings=SETTINGS)
        for job in ({}, JOB_KEY)
    )
    assert config_sha256(plain) == config_sha256(signed)
