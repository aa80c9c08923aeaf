"""A real API server, whichever way its kubeconfig authenticates: plain HTTP through `kubectl proxy`."""

import json
import os
import re
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

Manifest = dict[str, Any]
_LOCAL_CLUSTER = Path(os.environ.get("TRIMTAB_STATE") or Path.home() / ".cache/trimtab/run") / "admin.kubeconfig"


class RefusedError(Exception):
    """The API server said no."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class Api:
    """Create, change and read objects; `fieldValidation=Strict`, as kubectl asks for."""

    def __init__(self, address: str, *, user: str = "") -> None:
        self.address = address
        self._headers = {"Impersonate-User": user} if user else {}

    def acting_as(self, user: str) -> "Api":
        """The same server, asked by somebody else."""
        return Api(self.address, user=user)

    def create(self, manifest: Manifest, *, dry_run: bool = False) -> Manifest:
        """POST."""
        return self._call("POST", collection(manifest), manifest, dry_run=dry_run)

    def replace_status(self, manifest: Manifest) -> Manifest:
        """PUT of the status sub-resource."""
        return self._call("PUT", f"{collection(manifest)}/{manifest['metadata']['name']}/status", manifest)

    def merge(self, manifest: Manifest, patch: Manifest, *, dry_run: bool = False) -> Manifest:
        """JSON merge patch of an object."""
        path = f"{collection(manifest)}/{manifest['metadata']['name']}"
        return self._call("PATCH", path, patch, dry_run=dry_run, content_type="application/merge-patch+json")

    def apply(self, manifest: Manifest, *, dry_run: bool = False) -> Manifest:
        """Server-side apply."""
        path = f"{collection(manifest)}/{manifest['metadata']['name']}"
        query = {"fieldManager": "trimtab-tests", "force": "true"}
        return self._call(
            "PATCH", path, manifest, dry_run=dry_run, content_type="application/apply-patch+yaml", query=query
        )

    def get(self, path: str) -> Manifest:
        """GET of a path."""
        return self._call("GET", path)

    def exists(self, path: str) -> bool:
        """Whether there is something at a path."""
        try:
            self.get(path)
        except RefusedError as error:
            if error.code != HTTPStatus.NOT_FOUND:
                raise
            return False
        return True

    def delete(self, manifest: Manifest) -> None:
        """DELETE; an object that is not there is fine."""
        try:
            self._call("DELETE", f"{collection(manifest)}/{manifest['metadata']['name']}")
        except RefusedError as error:
            if error.code != HTTPStatus.NOT_FOUND:
                raise

    def _call(
        self,
        method: str,
        path: str,
        body: Manifest | None = None,
        *,
        dry_run: bool = False,
        content_type: str = "application/json",
        query: Mapping[str, str] | None = None,
    ) -> Manifest:
        asked = dict(query or {})
        if method not in ("GET", "DELETE"):
            asked |= {"fieldValidation": "Strict"} | ({"dryRun": "All"} if dry_run else {})
        request = urllib.request.Request(
            f"{self.address}{path}?{urlencode(asked)}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": content_type, **self._headers},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                result: Manifest = json.load(answer)
                return result
        except urllib.error.HTTPError as error:
            with error:
                text = error.read().decode()
            try:
                message = json.loads(text)["message"]
            except (ValueError, KeyError):
                message = text
            raise RefusedError(error.code, message) from error


def collection(manifest: Manifest) -> str:
    """Path of the collection that an object belongs to."""
    version = manifest["apiVersion"]
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    namespace = manifest["metadata"].get("namespace")
    kind = manifest["kind"].lower()
    plural = f"{kind[:-1]}ies" if kind.endswith("y") else f"{kind}s"
    return f"{root}/namespaces/{namespace}/{plural}" if namespace else f"{root}/{plural}"


def kubeconfig() -> str | None:
    """KUBECONFIG, or the local cluster's."""
    named = os.environ.get("KUBECONFIG")
    return named or (str(_LOCAL_CLUSTER) if _LOCAL_CLUSTER.exists() else None)


def why_unreachable() -> str:
    """Why there is no API server; empty when there is one."""
    config = kubeconfig()
    if config is None:
        return "no API server: run `make up`, or set KUBECONFIG"
    done = subprocess.run(
        ["kubectl", f"--kubeconfig={config}", "get", "--raw", "/readyz", "--request-timeout=10s"],
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if done.returncode == 0 else f"the API server of {config} does not answer: {done.stderr.strip()}"


@contextmanager
def proxy(config: str | None = None) -> Iterator[Api]:
    """An API server without a password, for as long as the block runs: that of `config`, or of `kubeconfig()`."""
    process = subprocess.Popen(
        ["kubectl", f"--kubeconfig={config or kubeconfig()}", "proxy", "--port=0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.search(r"127\.0\.0\.1:\d+", line)
            assert found, f"kubectl proxy said: {line}"
            yield Api(f"http://{found[0]}")
        finally:
            process.terminate()
