"""From FineTuneJob to Job, on a real API server."""

from typing import Any

import pytest
from tests.integration.operator.conftest import StartOperator, eventually, queued_job
from tests.support.cluster import Api, Manifest, RefusedError
from tests.support.kube import condition

pytestmark = pytest.mark.integration


def path(namespace: str, plural: str, name: str = "sample-a1") -> str:
    group = {"jobs": "/apis/batch/v1", "finetunejobs": "/apis/trimtab.dev/v1alpha1"}.get(plural, "/api/v1")
    return f"{group}/namespaces/{namespace}/{plural}/{name}"


def found(server: Api, where: str) -> Manifest | None:
    try:
        return server.get(where)
    except RefusedError:
        return None


def reason(server: Api, namespace: str) -> str:
    """Every reason that the job's conditions give."""
    job = server.get(path(namespace, "finetunejobs", "sample"))
    return " ".join(entry["reason"] for entry in job.get("status", {}).get("conditions", []))


def test_a_job_gets_its_attempt(server: Api, namespace: str, start: StartOperator) -> None:
    start(TRIMTAB_WATCH_NAMESPACES=namespace)
    made = server.create(queued_job(namespace))

    job = eventually(lambda: found(server, path(namespace, "jobs")), what="the Job", timeout=30, every=0.05)

    owner = job["metadata"]["ownerReferences"][0]
    assert (owner["uid"], owner["controller"]) == (made["metadata"]["uid"], True)
    assert job["spec"]["suspend"] is True
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "nobody"
    assert "run-config.json" in server.get(path(namespace, "configmaps"))["data"]
    ours = server.get(path(namespace, "finetunejobs", "sample"))
    assert ours["status"]["attempts"][-1]["jobName"] == "sample-a1"
    assert ours["status"]["observedGeneration"] == 1
    assert condition(ours, "Running")["status"] != "True", "a queued job never reads as running"


def test_deleting_the_job_takes_everything_along(server: Api, namespace: str, start: StartOperator) -> None:
    start(TRIMTAB_WATCH_NAMESPACES=namespace)
    made = server.create(queued_job(namespace))
    eventually(lambda: found(server, path(namespace, "jobs")), what="the Job", timeout=30)

    server.delete(made)

    for plural in ("jobs", "configmaps"):
        eventually(
            lambda plural=plural: not server.exists(path(namespace, plural)), what=f"{plural} are gone", timeout=60
        )


def test_somebody_elses_job_is_left_alone(server: Api, namespace: str, start: StartOperator) -> None:
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "x"}]}}
    foreign: dict[str, Any] = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "sample-a1", "namespace": namespace},
        "spec": {"suspend": True, "template": template},
    }
    uid = server.create(foreign)["metadata"]["uid"]
    start(TRIMTAB_WATCH_NAMESPACES=namespace)
    server.create(queued_job(namespace))

    eventually(lambda: "NameConflict" in reason(server, namespace), what="the conflict is told", timeout=30)

    assert server.get(path(namespace, "jobs"))["metadata"]["uid"] == uid


def test_a_quota_is_told_and_waited_for(server: Api, namespace: str, start: StartOperator) -> None:
    hard = {"hard": {"count/jobs.batch": "0"}}
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "none", "namespace": namespace},
        "spec": hard,
    }
    stored = server.create(quota)
    # Nobody counts here: what the quota controller would write is written by hand.
    server.replace_status({**stored, "status": hard | {"used": {"count/jobs.batch": "0"}}})
    start(TRIMTAB_WATCH_NAMESPACES=namespace)
    server.create(queued_job(namespace))
    eventually(lambda: "QuotaExceeded" in reason(server, namespace), what="the quota is told", timeout=30)

    server.delete(quota)

    eventually(lambda: found(server, path(namespace, "jobs")), what="the Job", timeout=60)
    eventually(lambda: "QuotaExceeded" not in reason(server, namespace), what="it is told no longer", timeout=30)


def test_a_profile_that_comes_later_is_noticed(server: Api, namespace: str, start: StartOperator) -> None:
    start(TRIMTAB_WATCH_NAMESPACES=namespace)
    profile = f"later-{namespace}"
    server.create(queued_job(namespace, profile=profile))
    eventually(lambda: "ProfileNotFound" in reason(server, namespace), what="the missing profile is told", timeout=30)
    assert not server.exists(path(namespace, "jobs"))

    server.create(
        {"apiVersion": "trimtab.dev/v1alpha1", "kind": "TrainingProfile", "metadata": {"name": profile}, "spec": {}}
    )

    eventually(lambda: found(server, path(namespace, "jobs")), what="the Job", timeout=30)


def test_other_namespaces_are_left_alone(server: Api, namespace: str, start: StartOperator) -> None:
    operator = start(TRIMTAB_WATCH_NAMESPACES="somewhere-else")
    server.create(queued_job(namespace))
    eventually(operator.settled, what="the operator is at rest", timeout=30)

    assert server.get(path(namespace, "finetunejobs", "sample"))["status"] == {"observedGeneration": -1}
