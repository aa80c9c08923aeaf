"""Manifests for tests against a real cluster: a tiny real job that a test changes where it matters."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

from tests.support import kube
from tests.support.kube import Manifest
from tests.support.store import Bucket

MODEL = "s3://trimtab/assets/models/tiny-llama"
DATA = "s3://trimtab/assets/data/triage"


def secret(namespace: str, *, name: str = "trimtab-store", key: str | None = None) -> Manifest:
    """The store's credentials, as a user puts them into the namespace of the jobs."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "stringData": {
            "AWS_ACCESS_KEY_ID": os.environ["AWS_ACCESS_KEY_ID"],
            "AWS_SECRET_ACCESS_KEY": key or os.environ["AWS_SECRET_ACCESS_KEY"],
        },
    }


@contextmanager
def fresh_namespace(name: str, bucket: Bucket) -> Iterator[str]:
    """A namespace that enforces Pod Security `restricted`, with the store's Secret and an empty place in it; gone afterwards."""
    kube.kubectl("delete", "namespace", name, "--ignore-not-found", "--wait=true", timeout=300)
    bucket.clear(bucket.below(name, ""))
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}, secret(name))
    try:
        yield name
    finally:
        kube.kubectl("delete", "namespace", name, "--wait=false")


def fine_tune_job(namespace: str, name: str = "tiny", **spec: Any) -> Manifest:
    """About 20 seconds of LoRA on the tiny model; keyword arguments replace or extend parts of the spec."""
    base: dict[str, Any] = {
        "model": {"uri": MODEL},
        "task": {"causalLanguageModeling": {}},
        "method": {"lora": {"r": 4}},
        "data": {
            "train": [{"uri": f"{DATA}/train.jsonl"}],
            "validation": [{"uri": f"{DATA}/validation.jsonl"}],
            "maxSequenceLength": 128,
        },
        "training": {"maxSteps": 60, "globalBatchSize": 8, "learningRate": 0.001},
        "checkpoints": {"everySteps": 10},
        "output": {"modelName": name},
    }
    return {
        "apiVersion": "trimtab.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": name, "namespace": namespace},
        "spec": merged(base, spec),
    }


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with `changes` laid over it, object by object; None removes."""
    result = deepcopy(base)
    for key, value in changes.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return result


def wait_for_state(namespace: str, name: str, *states: str, timeout: float = 240) -> Manifest:
    """The job, once its state is one of these; fails at once when it came to rest in another one."""

    def look(job: Manifest | None) -> Manifest | None:
        state = (job or {}).get("status", {}).get("state", "")
        if job and state in states:
            return job
        if state in ("Complete", "Failed"):
            raise AssertionError(f"{name} is not {' or '.join(states)}: {kube.summary(job)}")
        return None

    return kube.wait_for("ftj", name, namespace, look, what=f"{name} {' or '.join(states)}", timeout=timeout)


def wait_for_step(namespace: str, name: str, step: int, *, timeout: float = 240) -> Manifest:
    """The job, once a checkpoint of this step or a later one is committed and it still runs."""

    def look(job: Manifest | None) -> Manifest | None:
        status = (job or {}).get("status", {})
        if status.get("state") in ("Complete", "Failed"):
            raise AssertionError(f"{name} has ended already: {kube.summary(job)}")
        return job if status.get("lastCheckpoint", {}).get("step", -1) >= step else None

    return kube.wait_for("ftj", name, namespace, look, what=f"checkpoint of step {step} of {name}", timeout=timeout)
