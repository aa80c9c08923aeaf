"""Two jobs publish to one model name at the same moment, fifty times: every number once."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from tests.integration.operator.conftest import StartOperator, eventually
from tests.integration.operator.test_endpoint import post, token
from tests.support.builders import published, success
from tests.support.cluster import Api, Manifest
from tests.support.manifests import smallest
from tests.support.operator_process import OperatorProcess

from trimtab_operator.names import JOB_LABEL

pytestmark = pytest.mark.integration

ROUNDS = 50
TOGETHER = 2
JOBS = [f"job-{number:03d}" for number in range(ROUNDS * TOGETHER)]


def test_two_jobs_at_the_same_moment_fifty_times(server: Api, namespace: str, start: StartOperator) -> None:
    operator = start(TRIMTAB_WATCH_NAMESPACES=namespace)
    for name in JOBS:
        job = smallest("FineTuneJob", namespace=namespace)
        job["metadata"]["name"] = name
        job["spec"]["output"] = {"modelName": "tone"}
        server.create(job)
    pods = eventually(lambda: first_pods(server, namespace), what="the pod of every job", timeout=120, every=0.5)

    barrier = Barrier(TOGETHER)
    with ThreadPoolExecutor(TOGETHER) as pool:
        for number in range(ROUNDS):
            names = JOBS[number * TOGETHER : (number + 1) * TOGETHER]
            list(pool.map(lambda name: publish(server, operator, pods[name], barrier), names))

    versions = eventually(lambda: all_versions(server, namespace), what="every version", timeout=60, every=0.5)
    assert sorted(version["spec"]["version"] for version in versions) == list(range(1, len(JOBS) + 1))
    assert Counter(version["spec"]["source"]["name"] for version in versions) == Counter(JOBS)
    assert {version["metadata"]["name"] for version in versions} == {
        f"tone-v{number}" for number in range(1, len(JOBS) + 1)
    }


def publish(server: Api, operator: OperatorProcess, pod: Manifest, barrier: Barrier) -> None:
    """What a trainer does at its end: it asks for a number, publishes, and ends with its last words."""
    namespace, job = pod["metadata"]["namespace"], pod["metadata"]["labels"][JOB_LABEL]
    bearer = token(server, namespace, pod)
    barrier.wait(timeout=60)
    code, reply = post(operator, f"{namespace}/finetunejobs/{job}/version", {"attempt": 1}, bearer)
    assert code == 200, reply
    again = post(operator, f"{namespace}/finetunejobs/{job}/version", {"attempt": 1}, bearer)
    assert again == (200, reply)
    words = success(published=published(reply["version"], "tone")).model_dump_json(by_alias=True, exclude_none=True)
    ended = {
        "exitCode": 0,
        "reason": "Completed",
        "message": words,
        "startedAt": "2026-11-21T12:00:00Z",
        "finishedAt": "2026-11-21T12:05:00Z",
    }
    container = {
        "name": "trainer",
        "image": "trainer:1",
        "imageID": "registry@sha256:1",
        "ready": False,
        "restartCount": 0,
        "state": {"terminated": ended},
    }
    server.replace_status({**pod, "status": {"phase": "Succeeded", "containerStatuses": [container]}})


def first_pods(server: Api, namespace: str) -> dict[str, Manifest] | None:
    """The pod of every job's first attempt, by job; nothing while one is missing."""
    items = server.get(f"/api/v1/namespaces/{namespace}/pods")["items"]
    found = {item["metadata"]["labels"][JOB_LABEL]: {"apiVersion": "v1", "kind": "Pod", **item} for item in items}
    return found if len(found) == len(JOBS) else None


def all_versions(server: Api, namespace: str) -> list[Manifest] | None:
    """Every ModelVersion; nothing while one is missing."""
    items: list[Manifest] = server.get(f"/apis/trimtab.dev/v1alpha1/namespaces/{namespace}/modelversions")["items"]
    return items if len(items) >= len(JOBS) else None
