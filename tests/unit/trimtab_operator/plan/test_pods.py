"""Pod Security `restricted`, and beyond it what a pod of Trimtab never has."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.builders import make_profile

from trimtab_operator.api.v1alpha1.training_profile import ResourceRequirements
from trimtab_operator.plan.pods import Container, pod_spec
from trimtab_operator.plan.volumes import claim_volumes, scratch_volume

GOLDEN = Path(__file__).parents[3] / "golden"
JOBS = [
    pytest.param(document["spec"]["template"]["spec"], id=path.parent.name)
    for path in sorted(GOLDEN.glob("*/expected.yaml"))
    for document in yaml.safe_load_all(path.read_text())
    if document["kind"] == "Job"
]
RESTRICTED_VOLUMES = {"configMap", "downwardAPI", "emptyDir", "persistentVolumeClaim", "projected", "secret"}


@pytest.mark.parametrize("spec", JOBS)
def test_restricted(spec: dict[str, Any]) -> None:
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers", "ephemeralContainers"} & set(spec)
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for volume in spec["volumes"]:
        assert set(volume) - {"name"} <= RESTRICTED_VOLUMES
    (container,) = spec["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "ports" not in container or all("hostPort" not in port for port in container["ports"])


@pytest.mark.parametrize("spec", JOBS)
def test_no_rights_and_no_secrets_in_the_environment(spec: dict[str, Any]) -> None:
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert "serviceAccountName" not in spec
    (container,) = spec["containers"]
    assert all("valueFrom" not in variable for variable in container["env"])
    assert "envFrom" not in container
    names = [variable["name"] for variable in container["env"]]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("spec", JOBS)
def test_only_scratch_is_writable(spec: dict[str, Any]) -> None:
    (container,) = spec["containers"]
    writable = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    assert writable <= {"/scratch", "/tmp", "/dev/shm"}
    assert all("sizeLimit" in volume["emptyDir"] for volume in spec["volumes"] if volume["name"] == "scratch")


@pytest.mark.parametrize("spec", JOBS)
def test_tokens_have_an_audience_and_an_hour(spec: dict[str, Any]) -> None:
    sources = [source for volume in spec["volumes"] for source in volume.get("projected", {}).get("sources", [])]
    tokens = [source["serviceAccountToken"] for source in sources if "serviceAccountToken" in source]
    assert tokens
    assert all(token["audience"] and token["expirationSeconds"] <= 3600 for token in tokens)


def test_our_variables_win() -> None:
    profile = make_profile(
        environment=[{"name": "HOME", "value": "/root"}, {"name": "HF_ENDPOINT", "value": "https://hub"}]
    )
    container = Container("x", "image", ["run"], {"HF_ENDPOINT": "ours"}, ResourceRequirements())
    spec = pod_spec(profile.spec, container, volumes=[scratch_volume("1Gi")])
    variables = {variable["name"]: variable["value"] for variable in spec["containers"][0]["env"]}
    assert variables == {"HOME": "/scratch", "HF_ENDPOINT": "ours", "USER": "trimtab"}


def test_claims_are_mounted_once_each() -> None:
    volumes = claim_volumes(["pvc://b/x", "s3://b/x", "pvc://a/y", "pvc://b/z"])
    assert [(volume.name, str(volume.mounts[0].path)) for volume in volumes] == [
        ("claim-0", "/mnt/trimtab/a"),
        ("claim-1", "/mnt/trimtab/b"),
    ]
