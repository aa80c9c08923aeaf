"""Gates on the whole cluster: who forgot is not promotable, who is good is; what was tampered with is found and not served."""

import json
from typing import Any

import pytest
from tests.support import kube
from tests.support.jobs import DATA, fine_tune_job, wait_for_state
from tests.support.store import Bucket

pytestmark = pytest.mark.e2e

FORGETTING = {"metric": "perplexity", "source": "general", "successCondition": "result <= baseline * 1.05"}
LEARNED = {"metric": "loss", "source": "test", "successCondition": "result < baseline * 0.9"}
CHAMPION = {"metric": "loss", "source": "general", "successCondition": "result <= champion * 1.02"}
SUBJECTS = ("sea", "hill", "wind", "road", "house", "bird", "ship", "tree", "child", "river")
VERBS = ("sings", "waits", "sleeps", "turns", "falls", "grows", "moves", "shines")


def sentences(start: int, count: int) -> bytes:
    """Plain prose of few words: what the model knows before it learns the task."""
    lines = []
    for number in range(start, start + count):
        subject, other = SUBJECTS[number % 10], SUBJECTS[(number // 10 + number) % 10]
        text = f"The old {subject} {VERBS[number % 8]} near the {other}, and the {other} {VERBS[(number // 8) % 8]}."
        lines.append(json.dumps({"text": text}) + "\n")
    return "".join(lines).encode()


def condition(kind: str, name: str, namespace: str, type_: str) -> tuple[str, str, str]:
    found = kube.get(kind, name, namespace)
    assert found is not None
    said = kube.condition(found, type_)
    return said["status"], said["reason"], said["message"]


def job_from_roots(namespace: str, name: str, general: dict[str, Any], **spec: Any) -> kube.Manifest:
    """The next version of the model `roots`, from its first one."""
    return fine_tune_job(
        namespace,
        name,
        model={"uri": "modelversion://roots-v1"},
        method={"lora": None, "full": {}},
        output={"modelName": "roots"},
        **{"data": {**general, "test": [{"uri": f"{DATA}/test.jsonl"}]}, **spec},
    )


def test_only_a_version_that_earned_it_is_served(namespace: str, bucket: Bucket) -> None:
    folder = bucket.below(namespace, "words")
    bucket.write(f"{folder}/train.jsonl", sentences(0, 300))
    bucket.write(f"{folder}/general.jsonl", sentences(300, 30))
    uri = f"s3://{bucket.name}/{folder}"
    general = {"general": [{"uri": f"{uri}/general.jsonl", "format": "text"}]}

    # What the model knows. It has no champion, and has to beat the random model that it began as.
    roots = fine_tune_job(
        namespace,
        "roots",
        method={"lora": None, "full": {}},
        data={"train": [{"uri": f"{uri}/train.jsonl"}], "validation": None, **general},
        training={"maxSteps": 80, "learningRate": 0.005},
        evaluation={"gates": [FORGETTING, CHAMPION]},
    )
    rollout = {
        "apiVersion": "trimtab.dev/v1alpha1",
        "kind": "ModelRollout",
        "metadata": {"name": "roots", "namespace": namespace},
        "spec": {"modelName": "roots", "version": 1},
    }
    kube.apply(roots, rollout)
    wait_for_state(namespace, "roots", "Complete")
    kube.eventually(lambda: kube.is_true("mdv", "roots-v1", namespace, "Promotable"), what="roots-v1 promotable")
    assert "no champion to compare with yet" in condition("mdv", "roots-v1", namespace, "Promotable")[2]
    kube.eventually(
        lambda: (kube.get("mro", "roots", namespace) or {}).get("status", {}).get("stableVersion") == 1,
        what="roots-v1 serves",
        timeout=300,
    )

    # Learned the task, forgot the rest.
    forgets = job_from_roots(
        namespace,
        "forgets",
        general,
        training={"maxSteps": 60, "learningRate": 0.02},
        evaluation={"gates": [LEARNED, FORGETTING]},
    )
    kube.apply(forgets)
    job = wait_for_state(namespace, "forgets", "Complete")
    assert kube.condition(job, "Evaluated")["reason"] == "NotPromotable"
    assert [gate["phase"] for gate in job["status"]["gates"]] == ["Successful", "Failed"]
    kube.eventually(lambda: condition("mdv", "roots-v2", namespace, "Promotable")[0] == "False", what="roots-v2 judged")
    status, reason, message = condition("mdv", "roots-v2", namespace, "Promotable")
    result, baseline = (float(job["status"]["gates"][1][field]) for field in ("result", "baseline"))
    assert (status, reason) == ("False", "GateFailed")
    assert f"perplexity on general is {result:.4g}, must be <= baseline * 1.05 = {baseline * 1.05:.4g}" in message
    move(namespace, 2)
    refused(namespace, "NotPromotable")

    # Measured again by a Job, against what serves: the same verdict.
    annotate(namespace, "roots-v2", "evaluate", "again")
    version = kube.eventually(
        lambda: answered(namespace, "roots-v2", "evaluation", "again"), what="a new evaluation", timeout=300
    )
    again = version["status"]["evaluation"]["gates"]
    assert [gate["phase"] for gate in again] == ["Successful", "Failed"], again
    assert float(again[1]["result"]) == pytest.approx(result, rel=0.02)

    # As good as what serves, and then somebody changes it in the store.
    good = job_from_roots(
        namespace,
        "good",
        general,
        training={"maxSteps": 4, "learningRate": 0.00001},
        evaluation={"gates": [FORGETTING, CHAMPION]},
    )
    kube.apply(good)
    job = wait_for_state(namespace, "good", "Complete")
    assert [(gate["phase"], gate.get("championVersion")) for gate in job["status"]["gates"]][1] == (
        "Successful",
        "roots-v1",
    )
    kube.eventually(lambda: kube.is_true("mdv", "roots-v3", namespace, "Promotable"), what="roots-v3 promotable")
    artifact = job["status"]["published"]["uri"].removeprefix(f"s3://{bucket.name}/")
    bucket.flip_a_byte(f"{artifact}/model.safetensors")
    annotate(namespace, "roots-v3", "verify", "once")
    kube.eventually(
        lambda: answered(namespace, "roots-v3", "verification", "once"), what="roots-v3 read back", timeout=300
    )
    status, reason, message = condition("mdv", "roots-v3", namespace, "Verified")
    assert (status, reason) == ("False", "DigestMismatch")
    assert "model.safetensors has sha256" in message
    move(namespace, 3)
    refused(namespace, "NotVerified")


def annotate(namespace: str, version: str, what: str, value: str) -> None:
    kube.kubectl("annotate", "mdv", version, "-n", namespace, "--overwrite", f"trimtab.dev/{what}={value}")


def answered(namespace: str, version: str, field: str, request: str) -> kube.Manifest | None:
    found = kube.get("mdv", version, namespace)
    answer = (found or {}).get("status", {}).get(field, {})
    return found if answer.get("request") == request else None


def move(namespace: str, version: int) -> None:
    patch = json.dumps({"spec": {"version": version}})
    kube.kubectl("patch", "mro", "roots", "-n", namespace, "--type=merge", "-p", patch)


def refused(namespace: str, reason: str) -> None:
    """The rollout says why it does not move, and what served goes on serving."""
    kube.eventually(
        lambda: condition("mro", "roots", namespace, "Stalled")[1] == reason, what=f"rollout refused: {reason}"
    )
    rollout = kube.get("mro", "roots", namespace)
    assert rollout is not None
    assert rollout["status"]["stableVersion"] == 1
    server = kube.items("deployments", namespace)[0]
    assert server["status"]["readyReplicas"] == 1
