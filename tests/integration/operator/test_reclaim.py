"""A version that is deleted with its bytes, on a real API server with its garbage collector."""

from typing import Any

import pytest
from tests.integration.operator.conftest import StartOperator, eventually
from tests.support.cluster import Api, Manifest
from tests.support.kube import condition
from tests.support.manifests import smallest

from trimtab_operator.names import RECLAIM_FINALIZER

pytestmark = pytest.mark.integration


def at(namespace: str, plural: str, name: str = "support-tone-v1") -> str:
    group = {"jobs": "/apis/batch/v1", "pods": "/api/v1"}.get(plural, "/apis/trimtab.dev/v1alpha1")
    return f"{group}/namespaces/{namespace}/{plural}/{name}".rstrip("/")


def version(namespace: str, number: int = 1) -> Manifest:
    made = smallest("ModelVersion", namespace=namespace)
    made["metadata"]["name"] = f"support-tone-v{number}"
    made["spec"] |= {
        "version": number,
        "reclaimPolicy": "Delete",
        "source": {"name": "tone", "uid": "1", "attempt": 1, "step": 60},
        "verifiedAt": "2026-11-21T12:00:00Z",
    }
    made["spec"]["artifact"]["uri"] = f"s3://trimtab/{namespace}/models/support-tone/{number}"
    return made


def kept(server: Api, namespace: str) -> bool:
    return RECLAIM_FINALIZER in server.get(at(namespace, "modelversions"))["metadata"].get("finalizers", [])


def reason(server: Api, namespace: str) -> str:
    found = server.get(at(namespace, "modelversions"))
    conditions = found.get("status", {}).get("conditions", [])
    return next((entry["reason"] for entry in conditions if entry["type"] == "Reclaimed"), "")


def delete(server: Api, thing: Manifest, policy: str) -> None:
    """As `kubectl delete --cascade` does it."""
    options = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": policy}
    server._call("DELETE", at(thing["metadata"]["namespace"], "modelversions", thing["metadata"]["name"]), options)


def pods(server: Api, namespace: str) -> list[Manifest]:
    found: list[Manifest] = server.get(at(namespace, "pods", ""))["items"]
    return found


def end(server: Api, pod: Manifest, code: int) -> None:
    """Play the kubelet: the pod's container has ended."""
    words = '{"schema": "trimtab.dev/termination/v1", "reason": "%s", "message": "as told"}'
    text = words % ("Succeeded" if code == 0 else "StorageAccessDenied")
    time = "2026-11-21T12:00:00Z"
    state: Any = {"exitCode": code, "message": text, "startedAt": time, "finishedAt": time, "reason": "Completed"}
    container = {"name": "trainer", "state": {"terminated": state}, "ready": False, "restartCount": 0, "image": "x", "imageID": ""}  # fmt: skip
    status = {"phase": "Failed" if code else "Succeeded", "containerStatuses": [container]}
    server.replace_status({**pod, "apiVersion": "v1", "kind": "Pod", "status": status})


@pytest.mark.parametrize("policy", ["Background", "Foreground"])
def test_it_waits_for_its_rollout_then_goes_with_its_bytes(
    server: Api, namespace: str, start: StartOperator, policy: str
) -> None:
    start(TRIMTAB_WATCH_NAMESPACES=namespace)
    made = server.create(version(namespace))
    rollout = server.create(smallest("ModelRollout", namespace=namespace))
    eventually(lambda: kept(server, namespace), what="the finalizer", timeout=30)
    delete(server, made, policy)
    eventually(lambda: reason(server, namespace) == "InUse", what="it waits", timeout=30)
    assert condition(server.get(at(namespace, "modelversions")), "Ready")["status"] == "True"

    server.delete(rollout)
    (pod,) = eventually(lambda: pods(server, namespace), what="the Job's pod", timeout=30)
    end(server, pod, 21)
    eventually(lambda: reason(server, namespace) == "ReclaimFailed", what="the failure is told", timeout=60)
    patch = {"metadata": {"annotations": {"trimtab.dev/reclaim": "Delete:again"}}}
    server.merge(made, patch)
    (pod,) = eventually(
        lambda: [each for each in pods(server, namespace) if each["metadata"]["uid"] != pod["metadata"]["uid"]],
        what="another try",
        timeout=60,
    )
    end(server, pod, 0)
    eventually(lambda: not server.exists(at(namespace, "modelversions")), what="the version is gone", timeout=60)


def test_retain_lets_it_go(server: Api, namespace: str, start: StartOperator) -> None:
    start(TRIMTAB_WATCH_NAMESPACES=namespace)
    made = server.create(version(namespace))
    server.create(smallest("ModelRollout", namespace=namespace))
    eventually(lambda: kept(server, namespace), what="the finalizer", timeout=30)
    delete(server, made, "Background")
    eventually(lambda: reason(server, namespace) == "InUse", what="it waits", timeout=30)
    server.merge(made, {"metadata": {"annotations": {"trimtab.dev/reclaim": "Retain"}}})
    eventually(lambda: not server.exists(at(namespace, "modelversions")), what="the version is gone", timeout=30)
    assert pods(server, namespace) == []


def test_a_namespace_that_goes_is_not_held_up(server: Api, namespace: str, start: StartOperator) -> None:
    start(TRIMTAB_WATCH_NAMESPACES=namespace)
    made = server.create(version(namespace))
    server.create(smallest("ModelRollout", namespace=namespace))
    eventually(lambda: kept(server, namespace), what="the finalizer", timeout=30)
    server.delete({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    # The namespace controller, which deletes what is inside, does not run here.
    delete(server, made, "Background")
    eventually(lambda: not server.exists(at(namespace, "modelversions")), what="the version is gone", timeout=30)
