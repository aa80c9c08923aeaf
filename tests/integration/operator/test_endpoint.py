"""Trainers report over HTTPS with their pod's token; the API server says whose it is."""

import json
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from tests.integration.operator.conftest import StartOperator, eventually, queued_job
from tests.support.builders import make_report
from tests.support.cluster import Api, Manifest
from tests.support.operator_process import OperatorProcess

pytestmark = pytest.mark.integration

AUDIENCE = "trimtab.dev/status"
KEP_2779 = {
    "trainerStatus": {
        "progressPercentage": 42,
        "estimatedRemainingSeconds": 60,
        "metrics": [{"name": "loss", "value": "0.5"}],
    }
}


@pytest.fixture
def operator(server: Api, namespace: str, start: StartOperator) -> OperatorProcess:
    """An operator, and two jobs whose pods exist (though nobody runs them)."""
    operator = start(TRIMTAB_WATCH_NAMESPACES=namespace)
    for name in ("sample", "other"):
        server.create(queued_job(namespace, name, runPolicy={}, output={"modelName": "tone"}))
    return operator


def pod_of(server: Api, namespace: str, job: str) -> Manifest:
    """The pod that the Job controller made for the job's first attempt."""

    def look() -> Manifest | None:
        items = server.get(f"/api/v1/namespaces/{namespace}/pods")["items"]
        return next((item for item in items if item["metadata"]["ownerReferences"][0]["name"] == f"{job}-a1"), None)

    return eventually(look, what=f"the pod of {job}")


def token(server: Api, namespace: str, pod: Manifest | None, audience: str = AUDIENCE) -> str:
    """What the kubelet would project into the pod."""
    spec: dict[str, Any] = {"audiences": [audience], "expirationSeconds": 600}
    if pod is not None:
        spec["boundObjectRef"] = {
            "apiVersion": "v1",
            "kind": "Pod",
            "name": pod["metadata"]["name"],
            "uid": pod["metadata"]["uid"],
        }
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    answer = server._call("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts/default/token", body)
    return str(answer["status"]["token"])


def post(operator: OperatorProcess, path: str, body: Manifest, bearer: str) -> tuple[int, Manifest]:
    """As transformers' KubeflowCallback does it: urllib, the CA's file, the token."""
    context = ssl.create_default_context(cafile=str(Path(operator.tls_directory) / "ca.crt"))
    request = urllib.request.Request(
        f"https://localhost:{operator.status_port}/v1alpha1/namespaces/{path}",
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {bearer}", "Content-Type": "application/json"},
        method="POST",
    )
    try:
        with urllib.request.urlopen(request, timeout=10, context=context) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_progress_reaches_the_status(server: Api, namespace: str, operator: OperatorProcess) -> None:
    bearer = token(server, namespace, pod_of(server, namespace, "sample"))

    code, answer = post(operator, f"{namespace}/finetunejobs/sample/status", KEP_2779, bearer)

    assert (code, answer["trainerStatus"]["progressPercentage"]) == (200, 42)
    job = f"/apis/trimtab.dev/v1alpha1/namespaces/{namespace}/finetunejobs/sample"
    eventually(
        lambda: server.get(job)["status"].get("progress", {}).get("percent") == 42,
        what="the progress is told",
        timeout=30,
    )


def test_a_report_and_a_version(server: Api, namespace: str, operator: OperatorProcess) -> None:
    bearer = token(server, namespace, pod_of(server, namespace, "sample"))
    report = make_report(progress={"step": 7, "totalSteps": 10, "percent": 70}).to_json()
    job = f"/apis/trimtab.dev/v1alpha1/namespaces/{namespace}/finetunejobs/sample"

    assert post(operator, f"{namespace}/finetunejobs/sample/report", report, bearer)[0] == 200
    versions = [post(operator, f"{namespace}/finetunejobs/sample/version", {"attempt": 1}, bearer) for _ in range(2)]

    assert versions[0] == versions[1] == (200, {"name": "tone-v1", "version": 1})
    eventually(
        lambda: server.get(job)["status"].get("progress", {}).get("step") == 7, what="the step is told", timeout=30
    )
    assert server.get(job)["status"]["modelVersion"] == "tone-v1"
    other = token(server, namespace, pod_of(server, namespace, "other"))
    assert post(operator, f"{namespace}/finetunejobs/other/version", {"attempt": 1}, other)[1] == {
        "name": "tone-v2",
        "version": 2,
    }


def test_who_is_not_heard(server: Api, namespace: str, operator: OperatorProcess) -> None:
    pod = pod_of(server, namespace, "sample")
    good = token(server, namespace, pod)
    path = f"{namespace}/finetunejobs/sample/status"

    codes = {
        "no token": post(operator, path, KEP_2779, "")[0],
        "not a token": post(operator, path, KEP_2779, "made.up.thing")[0],
        "a token for the API server": post(
            operator, path, KEP_2779, token(server, namespace, pod, "https://kubernetes.default.svc")
        )[0],
        "a token of no pod": post(operator, path, KEP_2779, token(server, namespace, None))[0],
        "another job's pod": post(
            operator, path, KEP_2779, token(server, namespace, pod_of(server, namespace, "other"))
        )[0],
        "another job": post(operator, f"{namespace}/finetunejobs/other/status", KEP_2779, good)[0],
        "no such job": post(operator, f"{namespace}/finetunejobs/nobody/status", KEP_2779, good)[0],
        "another namespace": post(operator, "default/finetunejobs/sample/status", KEP_2779, good)[0],
        "another attempt": post(
            operator, f"{namespace}/finetunejobs/sample/report", make_report(attempt=2).to_json(), good
        )[0],
    }

    assert codes == {
        "no token": 401,
        "not a token": 401,
        "a token for the API server": 401,
        "a token of no pod": 401,
        "another job's pod": 403,
        "another job": 403,
        "no such job": 404,
        "another namespace": 403,
        "another attempt": 409,
    }


def test_a_pod_that_was_deleted_is_heard_no_longer(server: Api, namespace: str, operator: OperatorProcess) -> None:
    pod = pod_of(server, namespace, "sample")
    bearer = token(server, namespace, pod)
    path = f"{namespace}/finetunejobs/sample/status"
    assert post(operator, path, KEP_2779, bearer)[0] == 200

    server.delete({"apiVersion": "v1", "kind": "FineTuneJob", **queued_job(namespace)})

    eventually(
        lambda: post(operator, path, KEP_2779, bearer)[0] in (401, 403, 404), what="nobody listens to it", timeout=30
    )
