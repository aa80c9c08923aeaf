"""The chain: a job, a version, a server that answers; two pods; a custom trainer; plain peft reads what we publish."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from tests.support import kube
from tests.support.jobs import fine_tune_job, wait_for_state
from tests.support.store import Bucket

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[2]


@contextmanager
def forwarded(namespace: str, service: str) -> Iterator[str]:
    """`kubectl port-forward` to a Service; the local URL."""
    command = ["kubectl", "port-forward", "-n", namespace, f"service/{service}", ":80"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield "http://127.0.0.1:" + process.stdout.readline().split("127.0.0.1:")[1].split()[0]
        finally:
            process.terminate()


def rollout(namespace: str, name: str, version: int = 1) -> kube.Manifest:
    return {
        "apiVersion": "trimtab.dev/v1alpha1",
        "kind": "ModelRollout",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"modelName": name, "version": version},
    }


def wait_for_rollout(namespace: str, name: str, version: int) -> kube.Manifest:
    def look(found: kube.Manifest | None) -> kube.Manifest | None:
        ready = found and kube.condition(found, "Ready")["status"] == "True"
        return found if found and ready and found["status"].get("stableVersion") == version else None

    return kube.wait_for("mro", name, namespace, look, what=f"rollout {name} serving version {version}", timeout=240)


def test_from_job_to_answer_and_to_the_next_version(namespace: str, bucket: Bucket) -> None:
    kube.apply(fine_tune_job(namespace, "tone"), rollout(namespace, "tone"))
    job = wait_for_state(namespace, "tone", "Complete")
    assert job["status"]["modelVersion"] == "tone-v1"
    for type_, status in {
        "Ready": "True",
        "Reconciling": "False",
        "Stalled": "False",
        "Complete": "True",
        "CheckpointAvailable": "True",
    }.items():
        assert kube.condition(job, type_)["status"] == status, type_
    assert job["status"]["observedGeneration"] == job["metadata"]["generation"]
    report = job["status"]["reportURI"].removeprefix(f"s3://{bucket.name}/")
    assert bucket.read(report.rsplit("/", 1)[0] + "/loss.png").startswith(b"\x89PNG")

    version = kube.get("mdv", "tone-v1", namespace)
    assert version is not None
    assert version["spec"]["source"]["uid"] == job["metadata"]["uid"]
    kube.wait_for_condition("mdv", "tone-v1", namespace, "Verified")

    wait_for_rollout(namespace, "tone", 1)
    with forwarded(namespace, "tone") as url:
        names = [model["id"] for model in requests.get(f"{url}/v1/models", timeout=60).json()["data"]]
        assert {"tone", "tone-v1", "base"} <= set(names)
        body = {"model": "tone", "messages": [{"role": "user", "content": "Where does it hurt?"}], "max_tokens": 4}
        answer = requests.post(f"{url}/v1/chat/completions", json=body, timeout=60).json()
        assert answer["choices"][0]["message"]["role"] == "assistant"

    kube.apply(
        fine_tune_job(namespace, "tone-again", output={"modelName": "tone"}, training={"maxSteps": 10, "seed": 7})
    )
    assert wait_for_state(namespace, "tone-again", "Complete")["status"]["modelVersion"] == "tone-v2"
    kube.kubectl("patch", "mro", "tone", "-n", namespace, "--type=merge", "-p", json.dumps({"spec": {"version": 2}}))
    wait_for_rollout(namespace, "tone", 2)
    kube.kubectl("delete", "ftj", "--all", "-n", namespace)
    assert len(kube.items("mdv", namespace)) == 2, "deleting a job never deletes a version"


PLAIN_PEFT = """
import json, sys
from peft import PeftModel
from transformers import AutoModelForSequenceClassification, AutoTokenizer
base, adapter, data = sys.argv[1:]
labels = json.load(open(adapter + "/labels.json"))
model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=len(labels))
model = PeftModel.from_pretrained(model, adapter).eval()
tokenizer = AutoTokenizer.from_pretrained(adapter)
rows = [json.loads(line) for line in open(data)]
answers = [model(**tokenizer(row["text"], truncation=True, max_length=128, return_tensors="pt")).logits.argmax() for row in rows]
print(sum(labels[int(answer)] == row["label"] for answer, row in zip(answers, rows)) / len(rows))
"""


def download(bucket: Bucket, prefix: str, to: Path) -> Path:
    to.mkdir()
    for key in bucket.keys(prefix):
        (to / key.removeprefix(prefix)).write_bytes(bucket.read(key))
    return to


def test_a_classifier_is_served_and_plain_peft_gives_the_reported_accuracy(
    namespace: str, bucket: Bucket, tmp_path: Path
) -> None:
    data = "s3://trimtab/assets/data/triage-labelled"
    job = fine_tune_job(
        namespace,
        "labels",
        model={"uri": "s3://trimtab/assets/models/tiny-bert"},
        task={"causalLanguageModeling": None, "sequenceClassification": {}},
        data={"train": [{"uri": f"{data}/train.jsonl"}], "validation": [{"uri": f"{data}/validation.jsonl"}]},
        training={"maxSteps": 40},
    )
    kube.apply(job, rollout(namespace, "labels"))
    wait_for_state(namespace, "labels", "Complete")
    version = kube.get("mdv", "labels-v1", namespace)
    assert version is not None
    reported = {metric["name"]: float(metric["value"]) for metric in version["spec"]["metrics"]}

    folder = version["spec"]["artifact"]["uri"].removeprefix(f"s3://{bucket.name}/") + "/"
    adapter = download(bucket, folder, tmp_path / "adapter")
    base = download(bucket, "assets/models/tiny-bert/", tmp_path / "base")
    rows = tmp_path / "validation.jsonl"
    rows.write_bytes(bucket.read("assets/data/triage-labelled/validation.jsonl"))
    command = [str(ROOT / "dev" / "in-trainer-image"), "python", "-c", PLAIN_PEFT, str(base), str(adapter), str(rows)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout
    assert float(printed.split()[-1]) == pytest.approx(reported["eval_accuracy"], abs=1e-6)

    wait_for_rollout(namespace, "labels", 1)
    with forwarded(namespace, "labels") as url:
        answer = requests.post(
            f"{url}/v1/classify", json={"model": "labels", "input": "My tooth hurts."}, timeout=60
        ).json()
    assert sum(entry["score"] for entry in answer["data"][0]["scores"]) == pytest.approx(1, abs=1e-3)


def test_two_pods_train_together(namespace: str) -> None:
    kube.apply(fine_tune_job(namespace, "pair", distribution={"nodes": 2}, training={"maxSteps": 20}))
    job = wait_for_state(namespace, "pair", "Complete", timeout=400)
    assert job["status"]["modelVersion"] == "pair-v1"
    assert len(job["status"]["attempts"]) == 1


def test_ttl_removes_job_and_pods_and_keeps_the_version(namespace: str) -> None:
    kube.apply(fine_tune_job(namespace, "brief", training={"maxSteps": 5}, runPolicy={"ttlSecondsAfterFinished": 5}))
    kube.wait_for("mdv", "brief-v1", namespace, lambda version: version, what="version of brief")
    kube.wait_for("ftj", "brief", namespace, lambda job: job is None, what="brief gone", timeout=60)
    kube.eventually(lambda: not kube.items("jobs", namespace), what="its Job gone", timeout=60)
    assert kube.get("mdv", "brief-v1", namespace) is not None


def test_a_deadline_saves_before_it_stops(namespace: str) -> None:
    long = {"training": {"maxSteps": 100000}, "checkpoints": {"everySteps": 5000}}
    kube.apply(fine_tune_job(namespace, "late", **long, runPolicy={"activeDeadlineSeconds": 45}))
    job = wait_for_state(namespace, "late", "Failed", timeout=240)
    assert kube.condition(job, "Failed")["reason"] == "DeadlineExceeded"
    assert job["status"]["lastCheckpoint"]["step"] > 0
