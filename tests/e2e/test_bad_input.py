"""Bad input gets its own reason, an Event and a message that names field and remedy; nothing is left behind."""

from typing import Any

import pytest
from tests.support import kube
from tests.support.jobs import DATA, fine_tune_job, secret, wait_for_state
from tests.support.store import Bucket

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        pytest.param({"method": {"lora": None, "loar": {}}}, "loar", id="unknown method"),
        pytest.param(
            {"method": {"full": {}}},
            "exactly one of lora, full, headOnly, ",
            id="two methods",
        ),
        pytest.param({"model": {"uri": "ftp://somewhere/model"}}, "spec.model.uri", id="unknown scheme"),
    ],
)
def test_what_the_api_server_refuses(spec: dict[str, Any], says: str, namespace: str) -> None:
    with pytest.raises(kube.KubectlError) as refused:
        kube.kubectl_apply(fine_tune_job(namespace, "bad", **spec))
    assert says in str(refused.value)
    assert kube.get("ftj", "bad", namespace) is None


@pytest.mark.parametrize(
    ("spec", "reason", "says"),
    [
        pytest.param(
            {"data": {"train": [{"uri": f"{DATA}/absent.jsonl"}]}},
            "DatasetNotFound",
            ("absent.jsonl", "data.train"),
            id="missing data set",
        ),
        pytest.param(
            {"data": {"train": [{"uri": "s3://trimtab/e2e/line17.jsonl"}]}},
            "DatasetInvalid",
            ("line 17", "JSON"),
            id="bad line 17",
        ),
        pytest.param(
            {"model": {"uri": "s3://trimtab/assets/models/absent"}},
            "ModelNotFound",
            ("absent", "model.uri"),
            id="wrong model URI",
        ),
        pytest.param(
            {"method": {"lora": {"targetModules": ["no_such"]}}},
            "ConfigInvalid",
            ("no_such", "targetModules"),
            id="no such module",
        ),
        pytest.param(
            {"training": {"extraArguments": {"learnRate": 1}}},
            "ConfigInvalid",
            ("learnRate", "extraArguments"),
            id="unknown argument",
        ),
        pytest.param(
            {"model": {"digest": "sha256:" + "0" * 64}},
            "DigestMismatch",
            ("model.digest",),
            id="other bytes than pinned",
        ),
        pytest.param(
            {
                "profile": "e2e-small",
                "model": {"uri": "s3://trimtab/assets/models/smollm2-135m-instruct"},
                "method": {"lora": None, "full": {}},
            },
            "WillNotFit",
            ("memory", "GiB"),
            id="model too large",
        ),
    ],
)
def test_what_the_trainer_refuses(
    spec: dict[str, Any], reason: str, says: tuple[str, ...], namespace: str, bucket: Bucket
) -> None:
    good = '{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}\n'
    bucket.write("e2e/line17.jsonl", (good * 16 + '{"messages": [\n' + good * 3).encode())
    kube.apply(small_profile(), fine_tune_job(namespace, "bad", **spec))
    job = wait_for_state(namespace, "bad", "Failed")
    failed = kube.condition(job, "Failed")
    assert (failed["status"], failed["reason"]) == ("True", reason), failed
    for words in says:
        assert words in failed["message"]
    assert len(job["status"]["attempts"]) == 1, "trying again cannot help"
    kube.wait_for_event(namespace, reason)
    assert not job["status"].get("checkpoints")
    assert not [key for key in bucket.keys("") if job["metadata"]["uid"] in key and "/manifests/" in key]
    running = [pod for pod in kube.items("pods", namespace) if pod["status"]["phase"] in ("Pending", "Running")]
    assert not running


def test_wrong_credentials(namespace: str) -> None:
    kube.apply(secret(namespace, key="not-the-key"), fine_tune_job(namespace, "bad"))
    failed = kube.condition(wait_for_state(namespace, "bad", "Failed"), "Failed")
    assert failed["reason"] == "StorageAccessDenied"
    assert "trimtab-store" in failed["message"] or "StorageProfile" in failed["message"]


def test_missing_secret(namespace: str) -> None:
    kube.delete("secrets", "trimtab-store", namespace)
    kube.apply(fine_tune_job(namespace, "bad"))
    failed = kube.condition(wait_for_state(namespace, "bad", "Failed"), "Failed")
    assert failed["reason"] == "StorageSecretMissing"


def test_an_unknown_profile_waits_for_it_and_goes_on(namespace: str) -> None:
    kube.delete("tprof", "e2e-later")
    kube.apply(fine_tune_job(namespace, "early", profile="e2e-later", training={"maxSteps": 5}))
    job = wait_for_state(namespace, "early", "Rejected")
    accepted = kube.condition(job, "Accepted")
    assert (accepted["status"], accepted["reason"]) == ("False", "ProfileNotFound")
    assert "e2e-later" in accepted["message"]
    assert not kube.items("jobs", namespace)
    kube.apply(small_profile("e2e-later", memory="2Gi"))
    wait_for_state(namespace, "early", "Complete")
    kube.delete("tprof", "e2e-later")


def small_profile(name: str = "e2e-small", *, memory: str = "1Gi") -> kube.Manifest:
    resources = {"requests": {"cpu": "200m", "memory": "512Mi"}, "limits": {"memory": memory}}
    return {
        "apiVersion": "trimtab.dev/v1alpha1",
        "kind": "TrainingProfile",
        "metadata": {"name": name},
        "spec": {"resources": resources},
    }
