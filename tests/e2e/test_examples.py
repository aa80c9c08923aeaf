"""Every example is applied as it stands and does what its first line says."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml
from tests.support import kube
from tests.support.jobs import wait_for_state
from tests.support.kube import Manifest

pytestmark = pytest.mark.e2e

MEMBERS = sorted(
    path
    for name in ("methods", "objectives", "serving", "tasks")
    for path in (Path(__file__).parents[2] / "examples" / name).glob("*.yaml")
)
EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("[0-9]*.yaml"))


def signing_secret(namespace: str) -> Manifest:
    """What the example has its reader make by hand."""
    command = ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout"]
    key = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    metadata = {"name": "signing", "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"signing.key": key}}


@pytest.mark.parametrize("example", MEMBERS, ids=lambda path: path.stem)
def test_example_of_a_member_is_accepted(example: Path, namespace: str) -> None:
    """Whole runs of them are trainer tests (integration/trimtab_trainer/test_examples.py); here the API server reads what a user would apply."""
    served = kube.kubectl("api-resources", "-o", "name")
    # KServe is not installed here: its part of an example meets its CRD in integration/operator/test_kserve.py.
    ours = [each for each in yaml.safe_load_all(example.read_text()) if f"{each['kind'].lower()}s." in served]
    assert ours
    for manifest in ours:
        kube.kubectl(
            "apply", "-n", namespace, "--dry-run=server", "--validate=strict", "-f", "-", stdin=json.dumps(manifest)
        )


@pytest.mark.parametrize(
    "example", [path for path in EXAMPLES if not path.name.startswith(("00-", "01-"))], ids=lambda path: path.stem
)
def test_example(example: Path, namespace: str) -> None:
    """00 is applied by the installation, 01 by the demo."""
    assert example.read_text().startswith("#"), "an example says what to look at"
    manifests = list(yaml.safe_load_all(example.read_text()))
    if "signingSecretName" in example.read_text():
        kube.apply(signing_secret(namespace))
    kube.kubectl("apply", "-n", namespace, "-f", str(example))
    for manifest in manifests:
        name = manifest["metadata"]["name"]
        if manifest["kind"] == "FineTuneJob":
            job = wait_for_state(namespace, name, "Complete", timeout=420)
            assert job["status"]["progress"]["percent"] >= 90
            assert "loss" in [metric["name"] for metric in job["status"]["metrics"]]
    for manifest in manifests:
        if manifest["kind"] == "ModelRollout":
            rollout = manifest["metadata"]["name"]
            kube.eventually(
                lambda name=rollout: kube.is_true("mro", name, namespace, "Ready"),
                what=f"rollout {rollout}",
                timeout=300,
            )
