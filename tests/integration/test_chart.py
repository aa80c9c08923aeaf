"""The chart and a real API server: what is rendered is accepted, and what it promises about rights holds."""

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.chart import VALUE_SETS, Manifest, helm, of_kind, render
from tests.support.cluster import Api, RefusedError, kubeconfig
from tests.support.kube import eventually
from tests.support.manifests import changed, smallest
from tests.support.rollouts import observed, plan_for

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not helm(), reason="needs helm: install it, or run `make up`, which makes it"),
]
USER = "somebody"


def dry_run(manifests: list[Manifest]) -> str:
    """Server-side apply of all of them, strictly, without a trace. What the API server objects to."""
    done = subprocess.run(
        [
            "kubectl",
            f"--kubeconfig={kubeconfig()}",
            "apply",
            "--server-side",
            "--force-conflicts",
            "--dry-run=server",
            "--validate=strict",
            "-f",
            "-",
        ],
        input=json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests}),
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if done.returncode == 0 else done.stderr


@pytest.mark.usefixtures("api")
@pytest.mark.parametrize("values", VALUE_SETS, ids=lambda values: values or "defaults")
def test_the_api_server_accepts_what_is_rendered(values: str) -> None:
    assert dry_run(list(render(values, namespace="default"))) == ""


@pytest.mark.usefixtures("api")
def test_the_api_server_accepts_a_rollouts_children() -> None:
    children = [changed(child, {"metadata.namespace": "default"}) for child in plan_for(observed()).apply]
    assert dry_run(children) == ""


@pytest.fixture
def restricted(api: Api) -> Iterator[str]:
    """A namespace that admits restricted pods only."""
    name = "test-restricted"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    api.apply(manifest)
    yield name
    api.delete(manifest)


def test_pods_pass_pod_security_restricted(api: Api, restricted: str) -> None:
    service_account = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "trimtab", "namespace": restricted},
    }
    api.apply(service_account)
    api.apply(changed(service_account, {"metadata.name": "default"}))
    servers = [child for child in plan_for(observed()).apply if child["kind"] == "Deployment"]
    for deployment in (*of_kind(render(), "Deployment"), *servers):
        template = deployment["spec"]["template"]
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "sample", "namespace": restricted, "labels": template["metadata"]["labels"]},
            "spec": template["spec"],
        }
        api.create(pod, dry_run=True)


def secret_job(namespace: str) -> Manifest:
    return changed(
        smallest("FineTuneJob", namespace=namespace),
        {"spec.model": {"uri": "hf://org/name", "secretName": "hub-token"}},
    )


def role(namespace: str, name: str, rules: list[dict[str, Any]]) -> list[Manifest]:
    metadata = {"name": name, "namespace": namespace}
    group = "rbac.authorization.k8s.io"
    return [
        {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": metadata, "rules": rules},
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": group, "kind": "Role", "name": name},
            "subjects": [{"apiGroup": group, "kind": "User", "name": USER}],
        },
    ]


JOBS = {"apiGroups": ["trimtab.dev"], "resources": ["finetunejobs"], "verbs": ["create"]}
HUB_TOKEN = {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["hub-token"], "verbs": ["get"]}


@pytest.fixture
def policy(api: Api) -> Iterator[None]:
    """The chart's admission policy under another name, limited to nothing."""
    kinds = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
    made = [changed(each, {"metadata.name": "trimtab-test"}) for each in of_kind(render(), *kinds)]
    made[-1]["spec"]["policyName"] = "trimtab-test"
    made[-1]["spec"]["matchResources"] = {
        "namespaceSelector": {"matchLabels": {"trimtab.dev/test": "admission-policy"}},
    }
    for manifest in made:
        api.apply(manifest)
    yield
    for manifest in made:
        api.delete(manifest)


@pytest.mark.usefixtures("policy")
def test_a_job_may_only_name_secrets_that_its_author_may_read(api: Api, namespace: str) -> None:
    api.merge(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
        {"metadata": {"labels": {"trimtab.dev/test": "admission-policy"}}},
    )
    for manifest in role(namespace, "author", [JOBS]):
        api.apply(manifest)
    somebody = api.acting_as(USER)

    def refusal() -> str:
        try:
            somebody.create(secret_job(namespace), dry_run=True)
        except RefusedError as error:
            return error.message
        return ""

    says = "you must be allowed to get Secret 'hub-token' in namespace"
    # A new policy takes the API server a moment to learn.
    eventually(lambda: says in refusal(), what="the policy refuses the job", timeout=30)
    eventually(
        lambda: somebody.create(smallest("FineTuneJob", namespace=namespace), dry_run=True),
        what="a job that names no Secret is accepted",
        timeout=30,
    )
    for manifest in role(namespace, "reader", [HUB_TOKEN]):
        api.apply(manifest)
    eventually(lambda: refusal() == "", what="who may read the Secret may name it", timeout=30)
