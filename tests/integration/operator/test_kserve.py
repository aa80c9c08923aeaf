"""A rollout on KServe against a real API server with KServe's real CRD; the test plays KServe's controller."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.integration.operator.conftest import StartOperator, eventually
from tests.support.cluster import Api, Manifest, RefusedError, collection
from tests.support.foreign_crds import gone_afterwards, inference_services, install
from tests.support.kserve import NAME, KServe, inference_service, uri_of
from tests.support.manifests import changed, smallest

pytestmark = pytest.mark.integration

EXAMPLE = Path(__file__).parents[3] / "examples" / "serving" / "kserve.yaml"
STEPS = {"canary": {"steps": [{"setWeight": 30}, {"pause": {}}]}}
PUBLISHED = {
    "spec.source": {"name": "sample", "uid": "uid-1", "attempt": 1, "step": 5},
    "spec.verifiedAt": "2026-01-01T00:00:00Z",
    "spec.artifact.format": "safetensors",
}


class Scene:
    """A rollout, its versions and KServe in one namespace."""

    def __init__(self, server: Api, namespace: str) -> None:
        self.server, self.namespace = server, namespace
        self.kserve = KServe()
        self._path = f"/apis/serving.kserve.io/v1beta1/namespaces/{namespace}/inferenceservices/{NAME}"
        for number in (1, 2):
            changes = {"metadata.name": f"support-tone-v{number}", "spec.version": number}
            uri = {"spec.artifact.uri": uri_of(number)}
            server.create(changed(smallest("ModelVersion", namespace=namespace), PUBLISHED | changes | uri))
        spec = {"spec.serving": {"kserve": {"inferenceService": NAME}}, "spec.strategy": STEPS}
        self.rollout = server.create(changed(smallest("ModelRollout", namespace=namespace), spec))

    @property
    def status(self) -> Manifest:
        """The rollout's."""
        name = self.rollout["metadata"]["name"]
        found: Manifest = self.server.get(f"{collection(self.rollout)}/{name}").get("status", {})
        return found

    def ready(self) -> tuple[str, str]:
        """Status and reason of the condition Ready."""
        found = [each for each in self.status.get("conditions", ()) if each["type"] == "Ready"]
        return (found[0]["status"], found[0]["reason"]) if found else ("", "")

    def until(self, status: str, reason: str) -> None:
        """Wait for the condition Ready."""
        eventually(lambda: self.ready() == (status, reason), what=f"Ready is {status} because of {reason}", timeout=30)

    def service(self) -> Manifest:
        """The InferenceService as it is stored."""
        found: Manifest = self.server.get(self._path)
        return found

    def look(self) -> dict[str, int]:
        """KServe looks at the InferenceService once; who answers then."""
        service = self.service()
        service["status"] = self.kserve.status(service["spec"])
        self.server.replace_status(service)
        return self.kserve.answers(service["status"])

    def until_answers(self, wanted: dict[int, int]) -> None:
        """Let KServe work until these versions answer."""
        shares = {uri_of(number): share for number, share in wanted.items()}
        eventually(lambda: self.look() == shares, what=f"{wanted} answer", timeout=30, every=0.3)


@pytest.fixture
def crd(server: Api) -> Iterator[Manifest]:
    """KServe's CRD, not installed yet; gone after the test."""
    with gone_afterwards(server, inference_services()) as crd:
        yield crd


def test_from_a_cluster_without_kserve_to_a_canary(
    server: Api, namespace: str, start: StartOperator, crd: Manifest
) -> None:
    start(TRIMTAB_WATCH_NAMESPACES=namespace)
    scene = Scene(server, namespace)
    scene.until("False", "KServeNotInstalled")
    install(server, crd)
    scene.until("False", "InferenceServiceNotFound")
    made = server.create(inference_service(namespace=namespace))

    eventually(lambda: model(scene.service())[0] == uri_of(1), what="the first model", timeout=30)
    scene.until_answers({1: 100})
    scene.until("True", "Stable")
    assert ours(scene.service()) == OURS
    assert scene.service()["spec"]["predictor"]["model"]["modelFormat"] == {"name": "huggingface"}
    assert "ownerReferences" not in scene.service()["metadata"]

    server.merge(scene.rollout, {"spec": {"version": 2}})
    scene.until_answers({1: 70, 2: 30})
    scene.until("False", "Paused")
    assert model(scene.service()) == (uri_of(2), 30)
    server.merge(scene.rollout, {"metadata": {"annotations": {"rollouts.trimtab.dev/action": "abort"}}})
    scene.until_answers({1: 100})
    scene.until("False", "Aborted")
    server.merge(scene.rollout, {"metadata": {"annotations": {"rollouts.trimtab.dev/action": "retry"}}})
    scene.until_answers({1: 70, 2: 30})
    scene.until("False", "Paused")
    server.merge(scene.rollout, {"metadata": {"annotations": {"rollouts.trimtab.dev/action": "promote"}}})
    scene.until_answers({2: 100})
    scene.until("True", "Stable")
    assert made["metadata"]["uid"] == scene.service()["metadata"]["uid"]


def test_the_example_is_accepted(server: Api, namespace: str, crd: Manifest) -> None:
    install(server, crd)
    for manifest in yaml.safe_load_all(EXAMPLE.read_text()):
        server.create(changed(manifest, {"metadata.namespace": namespace}), dry_run=True)


def test_serving_stays_with_kserve(server: Api, namespace: str) -> None:
    """What served would be left behind without anybody who looks after it."""
    rollout = server.create(smallest("ModelRollout", namespace=namespace))
    with pytest.raises(RefusedError, match="cannot change to or from kserve"):
        server.merge(rollout, {"spec": {"serving": {"builtin": None, "kserve": {"inferenceService": NAME}}}})


def model(service: Manifest) -> tuple[str, int | None]:
    predictor = service["spec"]["predictor"]
    return predictor["model"].get("storageUri", ""), predictor.get("canaryTrafficPercent")


OURS = {
    "metadata.annotations.trimtab.dev/model-rollout",
    "metadata.annotations.trimtab.dev/replaced-revision",
    "spec.predictor.canaryTrafficPercent",
    "spec.predictor.model.storageUri",
}


def ours(service: Manifest) -> set[str]:
    """Every field that belongs to the operator."""
    managers = service["metadata"]["managedFields"]
    (entry,) = [each for each in managers if each["manager"] == "trimtab-operator"]
    return set(leaves(entry["fieldsV1"], ""))


def leaves(fields: dict[str, Any], path: str) -> Iterator[str]:
    for key, below in fields.items():
        if key == ".":
            continue
        name = f"{path}.{key.removeprefix('f:')}".removeprefix(".")
        yield from leaves(below, name) if below else [name]
