"""A real API server with our CRDs, and a namespace for each test that asks for one."""

import uuid
from collections.abc import Iterator

import pytest
from tests.support.cluster import Api, Manifest, collection, proxy, why_unreachable
from tests.support.kube import eventually


@pytest.fixture(scope="session")
def api() -> Iterator[Api]:
    """The API server, with the CRDs of this checkout. Those that were not there before are gone afterwards."""
    # The trainer's tests below this folder run in its image, where the operator's packages are not.
    from trimtab_operator.api.crd import custom_resource_definition  # noqa: PLC0415
    from trimtab_operator.api.v1alpha1 import KINDS  # noqa: PLC0415

    if why := why_unreachable():
        pytest.fail(why)
    with proxy() as server:
        made = [crd for crd in map(custom_resource_definition, KINDS) if _install(server, crd)]
        yield server
        for crd in made:
            server.delete(crd)


def _install(server: Api, crd: Manifest) -> bool:
    """True: the kind is new to this cluster."""
    path = f"{collection(crd)}/{crd['metadata']['name']}"
    known = server.exists(path)
    server.apply(crd)
    eventually(lambda: _established(server.get(path)), what=f"{path} is established", timeout=30)
    return not known


def _established(crd: Manifest) -> bool:
    # A CRD that was made this moment has null here.
    conditions = crd.get("status", {}).get("conditions") or []
    return any(entry["type"] == "Established" and entry["status"] == "True" for entry in conditions)


@pytest.fixture
def namespace(api: Api) -> Iterator[str]:
    """A namespace of its own."""
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"test-{uuid.uuid4().hex[:8]}"}}
    api.create(manifest)
    yield manifest["metadata"]["name"]
    api.delete(manifest)


@pytest.fixture(scope="module")
def shared_namespace(api: Api) -> Iterator[str]:
    """One namespace for the tests of a module that leave nothing behind (dry runs)."""
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"test-{uuid.uuid4().hex[:8]}"}}
    api.create(manifest)
    yield manifest["metadata"]["name"]
    api.delete(manifest)
