"""Every golden child is one that a real API server takes, and every trainer pod passes Pod Security `restricted`."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.cluster import Api, Manifest, collection
from tests.support.foreign_crds import gone_afterwards, http_routes, install

GOLDEN = Path(__file__).parents[1] / "golden"
CHILDREN = [
    pytest.param(document, id=f"{path.parent.name}-{document['kind']}")
    for path in sorted(GOLDEN.glob("*/expected.yaml"))
    for document in yaml.safe_load_all(path.read_text())
]


@pytest.fixture(scope="module")
def restricted(api: Api) -> Iterator[str]:
    """A namespace that admits restricted pods only."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    manifest: Manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    api.create(manifest)
    # The pod's service account is made by a controller a moment later; a dry run needs it, too.
    api.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": name}})
    yield name
    api.delete(manifest)


@pytest.fixture(scope="module")
def gateway_api(api: Api) -> Iterator[None]:
    """HTTPRoutes, for as long as they are needed where the cluster has none of its own."""
    crd = http_routes()
    if api.exists(f"{collection(crd)}/{crd['metadata']['name']}"):
        yield
        return
    with gone_afterwards(api, crd):
        install(api, crd)
        yield


@pytest.mark.parametrize("child", CHILDREN)
def test_the_api_server_takes_it(api: Api, restricted: str, gateway_api: None, child: dict[str, Any]) -> None:
    moved = child | {"metadata": child["metadata"] | {"namespace": restricted}}
    made = api.create(moved, dry_run=True)
    if child["kind"] in ("Job", "Deployment"):
        template = child["spec"]["template"]
        pod_spec = {
            key: value
            for key, value in template["spec"].items()
            if key not in ("runtimeClassName", "priorityClassName")
        }
        metadata = {"name": "sample", "namespace": restricted, "labels": template["metadata"]["labels"]}
        api.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod_spec}, dry_run=True)
    if child["kind"] == "Job":
        assert made["spec"]["podFailurePolicy"] == child["spec"]["podFailurePolicy"]
