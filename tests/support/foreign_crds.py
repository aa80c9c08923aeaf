"""CRDs of other projects, out of their published Go modules: what Trimtab writes is compared with the real schemas.

The modules come through the Go proxy, as the local cluster's sources do, and stay in Go's module cache.
"""

import json
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import yaml
from tests.support.cluster import Api, Manifest, collection
from tests.support.kube import eventually

KSERVE = "github.com/kserve/kserve@v0.20.0"
GATEWAY_API = "sigs.k8s.io/gateway-api@v1.4.1"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@cache
def module(name: str) -> Path:
    """Where a module's files lie."""
    command = ["go", "mod", "download", "-json", name]
    with tempfile.TemporaryDirectory() as anywhere:
        done = subprocess.run(command, cwd=anywhere, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return Path(json.loads(done.stdout)["Dir"])


def inference_services() -> Manifest:
    """KServe's CRD."""
    return _read(module(KSERVE) / "config" / "crd" / "full" / "serving.kserve.io_inferenceservices.yaml")


def http_routes() -> Manifest:
    """Gateway API's CRD of routes, of its standard channel."""
    return _read(module(GATEWAY_API) / "config" / "crd" / "standard" / "gateway.networking.k8s.io_httproutes.yaml")


def install(server: Api, crd: Manifest) -> None:
    """Apply it, and wait until its objects can be made."""
    server.apply(crd)
    spec = crd["spec"]
    version = next(each["name"] for each in spec["versions"] if each["storage"])
    path = f"/apis/{spec['group']}/{version}/namespaces/default/{spec['names']['plural']}"
    eventually(lambda: server.exists(path), what=f"{crd['metadata']['name']} are served", timeout=60, every=0.1)


@contextmanager
def gone_afterwards(server: Api, crd: Manifest) -> Iterator[Manifest]:
    """Whoever installs it meanwhile: then it is gone. While it is being deleted, an apply would change what vanishes."""
    try:
        yield crd
    finally:
        server.delete(crd)
        path = f"{collection(crd)}/{crd['metadata']['name']}"
        eventually(lambda: not server.exists(path), what=f"{crd['metadata']['name']} is gone", timeout=60, every=0.1)


def _read(path: Path) -> Manifest:
    crd: Manifest = yaml.load(path.read_text(), Loader=_LOADER)
    return crd
