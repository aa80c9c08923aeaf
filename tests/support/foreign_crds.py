"""CRDs of other projects, out of their published Go modules: what Trimtab writes is compared with the real schemas.

The modules come through the Go proxy, as the local cluster's sources do, and stay in Go's module cache.
"""

import json
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import yaml
from tests.support.cluster import Manifest

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


def _read(path: Path) -> Manifest:
    crd: Manifest = yaml.load(path.read_text(), Loader=_LOADER)
    return crd
