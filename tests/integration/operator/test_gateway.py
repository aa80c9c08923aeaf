"""Whole models on vLLM against a real API server with Gateway API's real CRD; the test plays Deployment controller, servers and Gateway."""

from collections.abc import Iterator
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path

import pytest
import yaml
from tests.integration.operator.conftest import StartOperator, eventually
from tests.integration.operator.test_endpoint import post, token
from tests.support.cluster import Api, Manifest, RefusedError, collection
from tests.support.foreign_crds import gone_afterwards, http_routes, install
from tests.support.gateway import GATEWAY, SERVING, parents, shares
from tests.support.kserve import uri_of
from tests.support.manifests import changed, smallest
from tests.support.operator_process import OperatorProcess

from trimtab_trainer.contract.serving import ServerReport, VersionState

pytestmark = pytest.mark.integration

EXAMPLE = Path(__file__).parents[3] / "examples" / "serving" / "vllm-whole.yaml"
STEPS = {"canary": {"steps": [{"setWeight": 30}, {"pause": {}}]}}
PUBLISHED = {
    "spec.source": {"name": "sample", "uid": "uid-1", "attempt": 1, "step": 5},
    "spec.verifiedAt": "2026-01-01T00:00:00Z",
    "spec.artifact.format": "safetensors",
}
ACTION = "rollouts.trimtab.dev/action"


class Scene:
    """A rollout and its versions in one namespace, and everybody who follows what the operator writes."""

    def __init__(self, server: Api, namespace: str, operator: OperatorProcess) -> None:
        self.server, self.namespace, self.operator = server, namespace, operator
        for number in (1, 2):
            changes = {"metadata.name": f"support-tone-v{number}", "spec.version": number}
            uri = {"spec.artifact.uri": uri_of(number)}
            server.create(changed(smallest("ModelVersion", namespace=namespace), PUBLISHED | changes | uri))
        spec = {"spec.serving": SERVING, "spec.strategy": STEPS}
        self.rollout = server.create(changed(smallest("ModelRollout", namespace=namespace), spec))
        self.name = self.rollout["metadata"]["name"]
        self.slow: set[int] = set()
        """Versions whose servers never become ready."""

    def ready(self) -> tuple[str, str]:
        """Status and reason of the condition Ready."""
        status = self.server.get(f"{collection(self.rollout)}/{self.name}").get("status", {})
        found = [each for each in status.get("conditions", ()) if each["type"] == "Ready"]
        return (found[0]["status"], found[0]["reason"]) if found else ("", "")

    def until(self, status: str, reason: str) -> None:
        """Let everybody work until the condition Ready says this."""

        def look() -> bool:
            self.work()
            return self.ready() == (status, reason)

        eventually(look, what=f"Ready is {status} because of {reason}", timeout=60, every=0.3)

    def until_answers(self, wanted: dict[int, int], *, servers: set[int]) -> None:
        """Let everybody work until these versions answer, and these have servers."""

        def look() -> bool:
            self.work()
            return self.answers() == wanted and self.servers() == servers == self.services()

        eventually(look, what=f"{wanted} answer by servers of {servers}", timeout=60, every=0.3)

    def work(self) -> None:
        """Servers that should be there are, and report; the Gateway takes the route. What changes or goes meanwhile has the next turn."""
        for deployment in self._list("apps/v1", "deployments"):
            if _version(deployment) not in self.slow and not deployment["metadata"].get("deletionTimestamp"):
                with suppress(RefusedError):
                    self._serve(deployment)
        route = self.route()
        if route is not None:
            with suppress(RefusedError):
                self.server.replace_status(route | {"status": {"parents": parents(route)}})

    def answers(self) -> dict[int, int]:
        """Shares by version."""
        route = self.route()
        return {int(name.rpartition("-v")[2]): share for name, share in shares(route).items()} if route else {}

    def servers(self) -> set[int]:
        """Versions that have a Deployment."""
        return {_version(each) for each in self._list("apps/v1", "deployments")}

    def services(self) -> set[int]:
        """Versions that have a Service."""
        return {_version(each) for each in self._list("v1", "services")}

    def route(self) -> Manifest | None:
        """The HTTPRoute."""
        path = f"/apis/gateway.networking.k8s.io/v1/namespaces/{self.namespace}/httproutes/{self.name}"
        return self.server.get(path) if self.server.exists(path) else None

    def act(self, action: str) -> None:
        """Annotate, as the user does."""
        self.server.merge(self.rollout, {"metadata": {"annotations": {ACTION: action}}})

    def _list(self, api_version: str, plural: str) -> list[Manifest]:
        root = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
        kind = {"deployments": "Deployment", "services": "Service"}[plural]
        items = self.server.get(f"{root}/namespaces/{self.namespace}/{plural}")["items"]
        return [{"apiVersion": api_version, "kind": kind, **item} for item in items]

    def _serve(self, deployment: Manifest) -> None:
        """As Deployment controller, kubelet and router do: a pod of the template, which says that its version is loaded."""
        metadata, spec = deployment["metadata"], deployment["spec"]
        name = f"{metadata['name']}-5f7"
        replica_set = self._made(
            {
                "apiVersion": "apps/v1",
                "kind": "ReplicaSet",
                "metadata": self._metadata(name, deployment, {}),
                "spec": {"replicas": 0, "selector": spec["selector"], "template": spec["template"]},
            }
        )
        pod = self._made(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": self._metadata(f"{name}-1", replica_set, spec["template"]["metadata"]),
                "spec": spec["template"]["spec"],
            }
        )
        report = ServerReport(
            instance="a", versions=[VersionState(name=f"support-tone-v{_version(deployment)}", state="Ready")]
        )
        path = f"{self.namespace}/modelrollouts/{self.name}/server"
        code, _ = post(self.operator, path, report.to_json(), token(self.server, self.namespace, pod))
        if code != HTTPStatus.OK:
            return  # Its servers are going.
        ready = {"replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1}
        status = ready | {"observedGeneration": metadata["generation"]}
        if status.items() - deployment.get("status", {}).items():
            self.server.replace_status(deployment | {"status": status})

    def _metadata(self, name: str, owner: Manifest, given: Manifest) -> Manifest:
        reference = {
            "apiVersion": owner["apiVersion"],
            "kind": owner["kind"],
            "name": owner["metadata"]["name"],
            "uid": owner["metadata"]["uid"],
            "controller": True,
        }
        return {"name": name, "namespace": self.namespace, "ownerReferences": [reference], "labels": {}} | given

    def _made(self, manifest: Manifest) -> Manifest:
        path = f"{collection(manifest)}/{manifest['metadata']['name']}"
        return self.server.get(path) if self.server.exists(path) else self.server.create(manifest)


def _version(manifest: Manifest) -> int:
    return int(manifest["metadata"]["labels"]["trimtab.dev/model-version"])


@pytest.fixture
def crd(server: Api) -> Iterator[Manifest]:
    """Gateway API's CRD, not installed yet; gone after the test."""
    with gone_afterwards(server, http_routes()) as crd:
        yield crd


def test_from_a_cluster_without_gateway_api_to_a_promotion(
    server: Api, namespace: str, start: StartOperator, crd: Manifest
) -> None:
    scene = Scene(server, namespace, start(TRIMTAB_WATCH_NAMESPACES=namespace))
    scene.until("False", "GatewayAPINotInstalled")
    install(server, crd)
    scene.until_answers({1: 100}, servers={1})
    scene.until("True", "Stable")
    route = scene.route()
    assert route is not None
    assert route["spec"]["hostnames"] == GATEWAY["hostnames"]
    assert route["metadata"]["ownerReferences"][0]["uid"] == scene.rollout["metadata"]["uid"]

    scene.slow = {2}
    server.merge(scene.rollout, {"spec": {"version": 2}})
    scene.until_answers({1: 100}, servers={1, 2})
    scene.until("False", "Progressing")
    scene.slow = set()
    scene.until_answers({1: 70, 2: 30}, servers={1, 2})
    scene.until("False", "Paused")
    scene.act("abort")
    scene.until_answers({1: 100}, servers={1})
    scene.until("False", "Aborted")
    scene.act("retry")
    scene.until_answers({1: 70, 2: 30}, servers={1, 2})
    server.delete(route)
    scene.until_answers({1: 70, 2: 30}, servers={1, 2})
    scene.until("False", "Paused")
    scene.act("promote")
    scene.until_answers({2: 100}, servers={2})
    scene.until("True", "Stable")


def test_the_gateway_stays_while_a_version_serves(server: Api, namespace: str) -> None:
    """What serves would be left behind without anybody who looks after it."""
    spec = {"spec.serving": {"vllm": {"image": "vllm:1"}}}
    rollout = server.create(changed(smallest("ModelRollout", namespace=namespace), spec))
    with_gateway = {"spec": {"serving": {"vllm": {"gateway": GATEWAY}}}}
    server.merge(rollout, with_gateway, dry_run=True)
    stable = server.get(f"{collection(rollout)}/{rollout['metadata']['name']}") | {"status": {"stableVersion": 1}}
    server.replace_status(stable)
    with pytest.raises(RefusedError, match="gateway cannot come or go"):
        server.merge(rollout, with_gateway)


def test_the_gateway_never_goes(server: Api, namespace: str) -> None:
    rollout = server.create(changed(smallest("ModelRollout", namespace=namespace), {"spec.serving": SERVING}))
    with pytest.raises(RefusedError, match="gateway cannot come or go"):
        server.merge(rollout, {"spec": {"serving": {"vllm": {"gateway": None}}}})


def test_the_example_is_accepted(server: Api, namespace: str) -> None:
    for manifest in yaml.safe_load_all(EXAMPLE.read_text()):
        server.create(changed(manifest, {"metadata.namespace": namespace}), dry_run=True)
