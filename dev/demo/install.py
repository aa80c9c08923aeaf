"""Installs the operator and the two profiles that the demo, the examples and the end-to-end tests use.

Usage: python dev/demo/install.py      needs the environment of `make env`
"""

import os
import subprocess
import sys

from common import IMAGES_ENV, REPOSITORY, StepFailedError, step
from kube import Manifest, apply, load
from upload import bucket

NAMESPACE = "trimtab-system"
RELEASE = "trimtab"
SECRET = "trimtab-store"  # noqa: S105 - its name
_RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted"}


def image(role: str) -> str:
    """Reference of an image that `make images` made, or that the environment names."""
    variable = f"TRIMTAB_{role.upper()}_IMAGE"
    lines = IMAGES_ENV.read_text().splitlines() if IMAGES_ENV.is_file() else []
    made = dict(line.removeprefix("export ").split("=", 1) for line in lines if "=" in line)
    reference = os.environ.get(variable) or made.get(variable, "").strip("'\"")
    if not reference:
        raise StepFailedError(f"{variable} is not set: run `make images`, or name an image that the cluster can pull.")
    return reference


def _values(prefix: str, reference: str) -> list[str]:
    """Chart values of one image reference `repository[:tag][@digest]`."""
    rest, _, digest = reference.partition("@")
    repository, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:
        repository, tag = rest, ""
    values = {"repository": repository, "tag": tag, "digest": digest}
    return [f"--set-string={prefix}.{key}={value}" for key, value in values.items()]


def install_operator() -> None:
    """`helm upgrade --install`, waiting until the operator is ready."""
    apply(namespace(NAMESPACE))
    command = [
        "helm", "upgrade", "--install", RELEASE, str(REPOSITORY / "charts" / "trimtab"), "--namespace", NAMESPACE,
        *_values("image", image("operator")), *_values("trainerImage", image("trainer")), "--set=console.enabled=true", "--take-ownership", "--wait", "--timeout", "5m",
    ]  # fmt: skip
    with step(f"Installing the operator with Helm into {NAMESPACE}", "5-20 s"):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise StepFailedError(
            f"helm failed: {done.stderr.strip()}\nLook at: kubectl -n {NAMESPACE} get pods,events; "
            f"kubectl -n {NAMESPACE} logs -l app.kubernetes.io/name=trimtab"
        )


def install_profiles() -> None:
    """The two profiles of `examples/00-profiles.yaml`, with the store that the environment names."""
    profiles = load(REPOSITORY / "examples" / "00-profiles.yaml", {})
    spec = profiles["StorageProfile"]["spec"]
    endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
    spec |= {
        "endpoint": endpoint,
        "region": os.environ.get("AWS_REGION", "us-east-1"),
        "bucket": bucket(),
        "prefix": os.environ.get("TRIMTAB_PREFIX", "").strip("/"),
        "insecure": endpoint.startswith("http://"),
    }
    with step("Applying TrainingProfile cpu-small and StorageProfile default", "1 s"):
        apply(*profiles.values())


def namespace(name: str) -> Manifest:
    """A namespace that admits restricted pods only."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": _RESTRICTED}}


def credentials(namespace: str) -> Manifest:
    """The Secret that the StorageProfile names, from the environment."""
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    data = {name: os.environ[name] for name in names if os.environ.get(name)}
    metadata = {"name": SECRET, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "stringData": data}


if __name__ == "__main__":
    try:
        install_operator()
        install_profiles()
    except StepFailedError as error:
        sys.exit(str(error))
