"""The few things that kubectl does for the benchmark."""

import subprocess

import orjson
from load import Manifest


def apply(*manifests: Manifest) -> None:
    """Server-side apply."""
    apply_text(b"\n---\n".join(orjson.dumps(manifest) for manifest in manifests))


def apply_text(text: bytes) -> None:
    """Server-side apply of YAML documents."""
    command = ["kubectl", "apply", "--server-side", "--force-conflicts", "-f", "-"]
    subprocess.run(command, input=text, check=True, stdout=subprocess.DEVNULL)


def until_established(*names: str) -> None:
    """Wait until these CRDs are served."""
    crds = [f"crd/{name}" for name in names]
    command = ["kubectl", "wait", "--for=condition=Established", *crds, "--timeout=30s"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def delete(kind: str, name: str) -> None:
    """Delete an object without a namespace, if it is there."""
    subprocess.run(["kubectl", "delete", kind, name, "--ignore-not-found"], check=True, stdout=subprocess.DEVNULL)
