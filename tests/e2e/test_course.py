"""Two servers under load, versions that must be signed, a canary asked by a Job, and a version deleted with its bytes."""

import hashlib
import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.e2e.test_rollout import change, rollout, status_of, trainer_image, wait
from tests.support import kube
from tests.support.imports import imported_version, trained_adapters
from tests.support.jobs import fresh_namespace
from tests.support.kube import Manifest
from tests.support.load import QUESTION, answers, steady_load
from tests.support.store import Bucket

from trimtab_trainer.contract.manifests import ModelManifest
from trimtab_trainer.publishing.signature import SigningKey

pytestmark = pytest.mark.e2e
MODEL, PROFILE = "tone", "e2e-signed"
OPERATOR = "/api/v1/namespaces/trimtab-system/services/trimtab-metrics:metrics/proxy"


def new_key() -> SigningKey:
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return SigningKey(pem)


def signed(version: Manifest, key: SigningKey, bucket: Bucket, **spec: Any) -> Manifest:
    """The version with `manifest.sig` beside its manifest."""
    folder = version["spec"]["artifact"]["uri"].removeprefix(f"s3://{bucket.name}/")
    signature = key.sign(ModelManifest.model_validate_json(bucket.read(f"{folder}/manifest.json")))
    bucket.write(f"{folder}/manifest.sig", signature)
    said = {"keyId": key.key_id, "sha256": hashlib.sha256(signature).hexdigest()}
    return version | {"spec": version["spec"] | {"signature": said} | spec}


@pytest.fixture(scope="module")
def place(bucket: Bucket, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Versions 1 and 2 are signed by whom the profile believes, 3 by somebody else, 4 by nobody."""
    namespace, trusted = "e2e-course", new_key()
    adapters = trained_adapters(bucket, tmp_path_factory.mktemp("adapters"))
    profile = kube.get("tprof", "cpu-small")
    assert profile is not None
    signing = {"publicKeys": [trusted.public_pem], "required": True}
    named = {"apiVersion": "trimtab.dev/v1alpha1", "kind": "TrainingProfile", "metadata": {"name": PROFILE}}
    kube.apply(named | {"spec": profile["spec"] | {"default": False, "signing": signing}})
    with fresh_namespace(namespace, bucket):
        made = [
            imported_version(namespace, bucket, MODEL, number, adapters[name])
            for number, name in enumerate(("plain", "better", "better", "better"), start=1)
        ]
        kube.apply(
            signed(made[0], trusted, bucket),
            signed(made[1], trusted, bucket, reclaimPolicy="Delete"),
            signed(made[2], new_key(), bucket),
            made[3],
        )
        row = {
            "messages": [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": "dentistry"}],
        }
        bucket.write(bucket.below(namespace, "rows", "held-out.jsonl"), json.dumps(row).encode() + b"\n")
        yield namespace
    kube.kubectl("delete", "tprof", PROFILE)


def steps(namespace: str, bucket: Bucket) -> dict[str, Any]:
    """Half of the requests, then a Job asks."""
    data = {"uri": f"s3://{bucket.name}/{bucket.below(namespace, 'rows', 'held-out.jsonl')}"}
    asked = {
        "name": "answers",
        "provider": {"job": {"metric": "exact_match", "data": data, "maxTokens": 32}},
        "successCondition": "result >= champion",
    }
    return {"canary": {"steps": [{"setWeight": 50}, {"analysis": {"metrics": [asked]}}]}}


def refused(namespace: str, reason: str) -> str:
    """The rollout does not take the version, says so, and version 2 serves on."""

    def look() -> str:
        status = status_of(namespace)
        ready = kube.condition({"status": status}, "Ready")
        return str(ready["message"]) if ready["reason"] == reason else ""

    message = kube.eventually(look, what=reason, timeout=120, every=1)
    status = status_of(namespace)
    weights = {each["version"]: each["weight"] for each in status["weights"] if each["weight"]}
    assert (status["stableVersion"], weights) == (2, {2: 100})
    return message


def answered_by_pod(namespace: str) -> dict[str, int]:
    """Successful chat requests of each server, as it counts them."""
    found = {}
    for pod in kube.items("pods", namespace, f"trimtab.dev/model-rollout={MODEL},app.kubernetes.io/component=server"):
        name = pod["metadata"]["name"]
        text = kube.kubectl("get", "--raw", f"/api/v1/namespaces/{namespace}/pods/{name}:8000/proxy/metrics")
        lines = re.findall(r'^trimtab_server_requests_total\{(.*code="200".*)\} (\S+)', text, re.MULTILINE)
        found[name] = sum(int(float(value)) for _, value in lines)
    return found


def test_two_servers_under_load(place: str, bucket: Bucket) -> None:
    serving = {"builtin": {"profile": PROFILE, "replicas": 2}}
    kube.apply(rollout(place, serving=serving, strategy=steps(place, bucket)))
    wait(place, "Stable", 1, timeout=300)
    with steady_load(place, MODEL, trainer_image()):
        # A better version: the Job asks both, and the canary goes through.
        change(place, version=2)
        promoted = wait(place, "Stable", 2, timeout=240)
        pods = answered_by_pod(place)
        print(f"answered by each server: {pods}")
        assert promoted["history"][0]["outcome"] == "Promoted"
        assert len(pods) == 2
        assert all(pods.values()), "both servers answer"

        # Signed by somebody else: the servers refuse it. Signed by nobody: it does not even come to them.
        change(place, version=3)
        message = refused(place, "VersionRefused")
        assert "SignatureInvalid" in message
        print(message)
        change(place, version=4)
        print(refused(place, "SignatureMissing"))

        # A worse version: the Job's numbers take it back.
        bad = change(place, version=1)
        back = wait(place, "RolledBack", 2, timeout=240)
        stalled = kube.condition({"status": back}, "Stalled")
        print(f"rolled back {time.time() - bad:.0f} s after the worse version was asked for: {stalled['message']}")
        assert stalled["reason"] == "AnalysisFailed"
        assert "result 0, champion 1" in stalled["message"]
        measured = back["analysis"][-1]["measurements"][-1]
        assert (measured["value"], measured["champion"]) == ("0", "1")
        time.sleep(3)
        given = answers(place)
    print(f"{len(given)} requests: {Counter((line['code'], line.get('version', '')) for line in given)}")
    assert not [line for line in given if line["code"] != 200]
    versions = {line["version"] for line in given}
    assert {"tone-v1", "tone-v2"} == versions, "neither of the refused ones ever answered"


def test_the_console_shows_them(place: str) -> None:
    """The page that the demo switches on, with what the test before has made."""
    overview = kube.kubectl("get", "--raw", f"{OPERATOR}/console")
    # The API server's proxy puts its own path before every link.
    assert f'/console/rollouts/{place}/{MODEL}"' in overview
    page = kube.kubectl("get", "--raw", f"{OPERATOR}/console/rollouts/{place}/{MODEL}")
    assert "<polyline" in page, "weights over time"
    assert "AnalysisFailed" in page
    version = kube.kubectl("get", "--raw", f"{OPERATOR}/console/versions/{place}/{MODEL}-v2")
    assert "BytesVerified" in version


def test_a_version_is_deleted_with_its_bytes_once_nothing_uses_it(place: str, bucket: Bucket) -> None:
    folder = bucket.below(place, "models", MODEL, "2")
    kube.kubectl("delete", "mdv", f"{MODEL}-v2", "-n", place, "--wait=false")

    def reason() -> str:
        version = kube.get("mdv", f"{MODEL}-v2", place)
        return str(kube.condition(version, "Reclaimed")["reason"]) if version else "gone"

    kube.eventually(lambda: reason() == "InUse", what="it waits for the rollout", timeout=60, every=1)
    assert f"{folder}/manifest.json" in bucket.keys(f"{folder}/")
    # Without the steps that took it back.
    change(place, strategy={"canary": {"steps": None}})
    kube.kubectl("annotate", "mro", MODEL, "-n", place, "rollouts.trimtab.dev/action=retry", "--overwrite")
    wait(place, "Stable", 1)
    kube.eventually(lambda: reason() == "gone", what="the version is gone", timeout=180, every=1)
    assert bucket.keys(f"{folder}/") == [f"{folder}/deleted.json"]
    kube.wait_for_event(place, "Reclaimed")


def test_a_namespace_with_such_versions_is_deleted_at_once(bucket: Bucket) -> None:
    namespace = "e2e-going"
    with fresh_namespace(namespace, bucket):
        prefix = bucket.below(namespace, "models", "gone", "1")
        artifact = {"uri": f"s3://{bucket.name}/{prefix}", "manifestSha256": "0" * 64, "sizeBytes": 1, "format": "peftAdapter", "files": 1}  # fmt: skip
        spec = {"modelName": "gone", "version": 1, "baseModel": {"uri": "s3://trimtab/assets/models/tiny-llama"}, "artifact": artifact, "storage": "default", "reclaimPolicy": "Delete"}  # fmt: skip
        metadata = {"name": "gone-v1", "namespace": namespace}
        kube.apply(
            {"apiVersion": "trimtab.dev/v1alpha1", "kind": "ModelVersion", "metadata": metadata, "spec": spec},
            rollout(namespace, "gone") | {"spec": {"modelName": "gone", "version": 1}},
        )
        kube.eventually(
            lambda: (kube.get("mdv", "gone-v1", namespace) or {})["metadata"].get("finalizers"),
            what="the finalizer",
            timeout=60,
            every=1,
        )
    kube.eventually(lambda: kube.get("namespaces", namespace) is None, what="the namespace is gone", timeout=120)
