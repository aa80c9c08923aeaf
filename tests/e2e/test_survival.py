"""Whatever happens in the middle, the job completes from a committed checkpoint with the losses of an undisturbed run."""

import json
from collections.abc import Callable

import pytest
from tests.support import kube
from tests.support.jobs import fine_tune_job, fresh_namespace, wait_for_state, wait_for_step
from tests.support.store import Bucket

pytestmark = pytest.mark.e2e

LONG = {"training": {"maxSteps": 240}, "checkpoints": {"everySteps": 20}}
"""Long enough to be disturbed in the middle."""


def losses(bucket: Bucket, job: kube.Manifest) -> dict[int, float]:
    """Training loss by step, from the run's metrics file."""
    meta = job["metadata"]
    key = bucket.below(meta["namespace"], meta["name"], meta["uid"], "reports", "metrics.jsonl")
    lines = [line for line in bucket.lines(key) if "loss" in line]
    steps = [line["step"] for line in lines]
    assert steps == sorted(set(steps)), "a resumed run must neither repeat nor skip a step in its metrics"
    return {line["step"]: line["loss"] for line in lines}


@pytest.fixture(scope="module")
def undisturbed(bucket: Bucket) -> dict[int, float]:
    """The losses of the same job when nothing happens."""
    with fresh_namespace("e2e-undisturbed", bucket) as namespace:
        kube.apply(fine_tune_job(namespace, "calm", **LONG))
        return losses(bucket, wait_for_state(namespace, "calm", "Complete", timeout=400))


def delete_the_pod(namespace: str, name: str) -> None:
    kube.kubectl("delete", "pod", "-n", namespace, "-l", f"trimtab.dev/fine-tune-job={name}", "--wait=false")


def kill_the_pod_without_grace(namespace: str, name: str) -> None:
    kube.kubectl(
        "delete",
        "pod",
        "-n",
        namespace,
        "-l",
        f"trimtab.dev/fine-tune-job={name}",
        "--wait=false",
        "--grace-period=0",
        "--force",
    )


def suspend_and_resume(namespace: str, name: str) -> None:
    patch(namespace, name, suspend=True)
    suspended = wait_for_state(namespace, name, "Suspended")
    assert not kube.items("pods", namespace), "a suspended job gives back its pods"
    assert suspended["status"]["lastCheckpoint"]["step"] == suspended["status"]["progress"]["step"], (
        "suspending loses no step"
    )
    patch(namespace, name, suspend=False)


def kill_the_operator(namespace: str, name: str) -> None:
    kube.kubectl(
        "delete",
        "pod",
        "-n",
        "trimtab-system",
        "-l",
        "app.kubernetes.io/name=trimtab",
        "--grace-period=0",
        "--force",
        "--wait=false",
    )


def patch(namespace: str, name: str, **spec: object) -> None:
    kube.kubectl("patch", "ftj", name, "-n", namespace, "--type=merge", "-p", json.dumps({"spec": spec}))


@pytest.mark.parametrize(
    ("disturb", "attempts"),
    [
        pytest.param(delete_the_pod, 2, id="pod deleted"),
        pytest.param(kill_the_pod_without_grace, 2, id="pod killed without grace"),
        pytest.param(suspend_and_resume, 2, id="suspended and resumed"),
        pytest.param(kill_the_operator, 1, id="operator killed"),
    ],
)
def test_a_disturbed_run_equals_an_undisturbed_one(
    disturb: Callable[[str, str], None], attempts: int, namespace: str, bucket: Bucket, undisturbed: dict[int, float]
) -> None:
    kube.apply(fine_tune_job(namespace, "stormy", **LONG))
    wait_for_step(namespace, "stormy", 20)
    disturb(namespace, "stormy")
    job = wait_for_state(namespace, "stormy", "Complete", timeout=400)
    assert len(job["status"]["attempts"]) == attempts
    resumed_from = job["status"]["attempts"][-1].get("resumedFromStep")
    assert (resumed_from or 0) >= (20 if attempts > 1 else 0)
    assert losses(bucket, job) == undisturbed


def test_a_flipped_byte_is_noticed_and_the_older_checkpoint_used(
    namespace: str, bucket: Bucket, undisturbed: dict[int, float]
) -> None:
    kube.apply(fine_tune_job(namespace, "flipped", **LONG))
    job = wait_for_step(namespace, "flipped", 40)
    patch(namespace, "flipped", suspend=True)
    job = wait_for_state(namespace, "flipped", "Suspended")
    newest = job["status"]["lastCheckpoint"]
    attempt, step = f"a{newest['attempt']}", f"s{newest['step']}"
    folder = bucket.below(namespace, "flipped", job["metadata"]["uid"], attempt, step, "")
    bucket.flip_a_byte(next(key for key in bucket.keys(folder) if key.endswith(".safetensors")))
    patch(namespace, "flipped", suspend=False)
    job = wait_for_state(namespace, "flipped", "Complete", timeout=400)
    rejected = job["status"]["rejectedCheckpoints"]
    assert [entry["step"] for entry in rejected] == [newest["step"]]
    assert "sha256" in rejected[0]["why"].lower()
    assert job["status"]["attempts"][-1]["resumedFromStep"] < newest["step"]
    kube.wait_for_event(namespace, "CheckpointRejected")
    assert losses(bucket, job) == undisturbed
