"""A reward model: the trainer is told which bytes it is, and its pod can read them."""

from typing import Any

from tests.support.builders import SETTINGS, make_job, make_profile, make_storage, make_version, observed

from trimtab_operator.cluster.trim import Stored, jobs_on_version
from trimtab_operator.plan.fine_tune_job.config_map import config_text, run_config
from trimtab_operator.plan.fine_tune_job.trainer_job import trainer_job
from trimtab_operator.state import Manifest, ObservedJob

BASE = {"uri": "pvc://weights/judge", "digest": f"sha256:{64 * '1'}"}


def judged_by(uri: str, **fields: Any) -> ObservedJob:
    objective = {"supervised": None, "rloo": {"rewards": [{"rewardModel": {"uri": uri}}]}}
    return observed(make_job(objective=objective), **fields)


def pod(world: ObservedJob) -> Manifest:
    profile, storage = make_profile().spec, make_storage().spec
    config = run_config(world, 1, profile=profile, storage=storage, settings=SETTINGS)
    job = trainer_job(world, config, config_text(config), profile=profile, storage=storage, settings=SETTINGS)
    found: Manifest = job["spec"]["template"]["spec"]
    return found


def test_a_version_is_named_by_its_digest_and_its_base_model_is_mounted() -> None:
    world = judged_by("modelversion://support-tone-v1", reward_version=make_version(baseModel=BASE))
    config = run_config(world, 1, profile=make_profile().spec, storage=make_storage().spec, settings=SETTINGS)
    assert config.reward_model is not None
    assert (config.reward_model.name, config.reward_model.manifest_sha256) == ("support-tone-v1", 64 * "0")
    assert "weights" in str(pod(world)["volumes"])


def test_a_model_on_a_claim_is_mounted() -> None:
    assert "weights" in str(pod(judged_by("pvc://weights/judge"))["volumes"])
    assert "weights" not in str(pod(judged_by("s3://weights/judge"))["volumes"])


def test_a_job_waits_for_its_reward_model() -> None:
    body = judged_by("modelversion://judge-v1").job.model_dump(by_alias=True, mode="json")
    metadata = {"namespace": "demo", "name": "a", "uid": "1", "resourceVersion": "1"}
    stored = Stored.of({"kind": "FineTuneJob", "metadata": metadata, "spec": body["spec"]})
    assert jobs_on_version("demo", "judge-v1") in stored.terms
