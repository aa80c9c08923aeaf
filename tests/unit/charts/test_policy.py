"""What linters of Kubernetes manifests ask for, checked on every rendered manifest and on the pods that the operator makes."""

from typing import Any

import pytest
import yaml
from tests.support.chart import CHART, VALUE_SETS, HelmError, Manifest, helm, named, of_kind, render
from tests.support.rollouts import observed, planned

from trimtab_operator.settings import Settings

pytestmark = pytest.mark.skipif(not helm(), reason="needs helm: install it, or run `make up`, which makes it")
RENDERED = [pytest.param(values, id=values or "defaults") for values in VALUE_SETS]
OPERATOR_ROLES = ("trimtab-cluster", "trimtab-namespaced", "trimtab-leader")


def pods_of(values: str) -> list[tuple[str, Manifest]]:
    """Every pod that the chart makes, and a server's pod."""
    found = [(m["metadata"]["name"], m["spec"]["template"]["spec"]) for m in of_kind(render(values), "Deployment")]
    return [*found, ("a rollout's server", planned(observed(), "Deployment")["spec"]["template"]["spec"])]


def rules_of(values: str, *, only_operator: bool = False) -> list[tuple[str, dict[str, Any]]]:
    roles = of_kind(render(values), "ClusterRole", "Role")
    chosen = [role for role in roles if not only_operator or role["metadata"]["name"] in OPERATOR_ROLES]
    return [(role["metadata"]["name"], rule) for role in chosen for rule in role["rules"]]


def allowed(values: str, resource: str) -> set[str]:
    """What the operator may do with a resource."""
    rules = rules_of(values, only_operator=True)
    return {verb for _, rule in rules if resource in rule.get("resources", ()) for verb in rule["verbs"]}


@pytest.mark.parametrize("kubernetes", ["v1.31.0", "v1.31.4-gke.1183000", "v1.35.4+k3s1"])
def test_it_installs_on_kubernetes_since_1_31(kubernetes: str) -> None:
    assert of_kind(render("", kubernetes=kubernetes), "Deployment")


def test_an_older_cluster_is_refused_by_its_version() -> None:
    with pytest.raises(
        HelmError, match=r"chart requires kubeVersion: >=1\.31\.0-0.* incompatible with Kubernetes v1\.30\.5"
    ):
        render("", kubernetes="v1.30.5")


@pytest.mark.parametrize(("enabled", "verbs"), [("false", []), ("true", ["get", "patch"])])
def test_rights_at_inference_services_are_asked_for(enabled: str, verbs: list[str]) -> None:
    roles = of_kind(render("", f"kserve.enabled={enabled}"), "ClusterRole", "Role")
    rules = [rule for role in roles for rule in role["rules"] if "inferenceservices" in rule.get("resources", ())]
    assert [verb for rule in rules for verb in rule["verbs"]] == verbs


@pytest.mark.parametrize(
    ("enabled", "routes", "may_delete"), [("false", [], False), ("true", ["get", "create", "patch"], True)]
)
def test_rights_at_routes_are_asked_for(enabled: str, routes: list[str], may_delete: bool) -> None:  # noqa: FBT001 - a case
    roles = of_kind(render("", f"gatewayAPI.enabled={enabled}"), "ClusterRole", "Role")
    rules = [rule for role in roles for rule in role["rules"]]
    assert [verb for rule in rules if "httproutes" in rule["resources"] for verb in rule["verbs"]] == routes
    for resource in ("deployments", "services"):
        verbs = {verb for rule in rules if resource in rule["resources"] for verb in rule["verbs"]}
        assert ("delete" in verbs) == may_delete, resource


@pytest.mark.parametrize(
    ("values", "where"),
    [("", {"any": True}), ("ci/namespaced.yaml", {"matchNames": ["default"]})],
)
def test_the_servers_of_rollouts_are_scraped_on_request(values: str, where: dict[str, Any]) -> None:
    assert of_kind(render(values), "PodMonitor") == []
    (monitor,) = of_kind(render(values, "metrics.podMonitor.enabled=true"), "PodMonitor")
    server = planned(observed(), "Deployment")["spec"]["template"]
    wanted = monitor["spec"]["selector"]["matchLabels"]
    assert wanted.items() <= server["metadata"]["labels"].items()
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] in [port["name"] for port in server["spec"]["containers"][0]["ports"]]
    assert monitor["spec"]["namespaceSelector"] == where


@pytest.mark.parametrize("values", RENDERED)
def test_pods_are_restricted(values: str) -> None:
    for name, pod in pods_of(values):
        security = pod["securityContext"]
        assert security["runAsNonRoot"] is True, name
        assert security["runAsUser"] > 0, name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not pod.keys() & {"hostNetwork", "hostPID", "hostIPC"}, name
        assert all("hostPath" not in volume for volume in pod["volumes"]), name


@pytest.mark.parametrize("values", RENDERED)
def test_containers_are_restricted(values: str) -> None:
    for name, pod in pods_of(values):
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert {"startupProbe", "livenessProbe", "readinessProbe"} <= container.keys(), name
            # Secrets are files. That of the access key's id is a gate: without the Secret the container is not started.
            refs = [
                variable["valueFrom"]["secretKeyRef"]
                for variable in container["env"]
                if "secretKeyRef" in str(variable)
            ]
            assert all(ref["key"] == "AWS_ACCESS_KEY_ID" for ref in refs), name


@pytest.mark.parametrize("values", RENDERED)
def test_images_have_a_version(values: str) -> None:
    containers = [container for _, pod in pods_of(values) for container in pod["containers"]]
    assert [each["image"] for each in containers if each["image"].endswith(":latest") or ":" not in each["image"]] == []


@pytest.mark.parametrize("values", RENDERED)
def test_the_operator_asks_for_what_it_needs(values: str) -> None:
    container = named(render(values), "Deployment", "trimtab")["spec"]["template"]["spec"]["containers"][0]
    assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
    assert "memory" in container["resources"]["limits"]


@pytest.mark.parametrize("values", RENDERED)
def test_no_rule_has_a_wildcard(values: str) -> None:
    fields = ("apiGroups", "resources", "verbs", "nonResourceURLs")
    assert [
        name
        for name, rule in rules_of(values)
        if any("*" in entry for field in fields for entry in rule.get(field, ()))
    ] == []


@pytest.mark.parametrize("values", RENDERED)
@pytest.mark.parametrize(
    "resource",
    [
        "secrets",
        "serviceaccounts",
        "serviceaccounts/token",
        "pods/exec",
        "pods/attach",
        "pods/portforward",
        "nodes",
        "namespaces",
        "roles",
        "clusterroles",
        "rolebindings",
        "clusterrolebindings",
        "customresourcedefinitions",
        "validatingwebhookconfigurations",
        "mutatingwebhookconfigurations",
    ],
)
def test_the_operator_has_no_rights_on(values: str, resource: str) -> None:
    assert allowed(values, resource) == set()


@pytest.mark.parametrize(
    ("resource", "verbs"),
    [
        pytest.param("pods", {"get", "list", "watch"}, id="pods are made by Jobs and Deployments alone"),
        pytest.param("configmaps", {"get", "create", "patch"}, id="foreign ConfigMaps never reach the operator"),
        pytest.param("finetunejobs", {"get", "list", "watch", "delete"}, id="jobs are the user's; TTL deletes them"),
        pytest.param(
            "modelversions", {"get", "list", "watch", "create", "patch"}, id="a version is published once; a finalizer"
        ),
        pytest.param("modelrollouts", {"get", "list", "watch"}, id="rollouts are the user's"),
        pytest.param("trainingprofiles", {"get", "list", "watch"}, id="training profiles are the administrator's"),
        pytest.param("storageprofiles", {"get", "list", "watch"}, id="storage profiles are the administrator's"),
        pytest.param("leases", {"create", "get", "update"}, id="its Lease"),
    ],
)
def test_the_operators_rights(resource: str, verbs: set[str]) -> None:
    assert allowed("", resource) == verbs


def test_only_its_own_lease() -> None:
    rules = [rule for name, rule in rules_of("") if name == "trimtab-leader" and "update" in rule["verbs"]]
    assert [rule["resourceNames"] for rule in rules] == [["trimtab"]]


def test_every_rule_says_why() -> None:
    for name in ("rbac.yaml", "user-roles.yaml"):
        lines = (CHART / "templates" / name).read_text().splitlines()
        for number, line in enumerate(lines):
            if line.strip().startswith("- apiGroups:"):
                assert lines[number - 1].strip().startswith("# "), f"{name}:{number + 1}"


def test_namespaced_rights_stay_in_their_namespaces() -> None:
    manifests = render("ci/namespaced.yaml")
    cluster_wide = [binding["roleRef"]["name"] for binding in of_kind(manifests, "ClusterRoleBinding")]
    assert cluster_wide == ["trimtab-cluster"]
    bound = {
        binding["metadata"]["namespace"]: binding["roleRef"]["name"] for binding in of_kind(manifests, "RoleBinding")
    }
    assert bound == {"default": "trimtab-namespaced", "trimtab-system": "trimtab-leader"}


def test_users_never_write_a_status() -> None:
    roles = [rule for name, rule in rules_of("") if name not in OPERATOR_ROLES]
    assert roles
    assert [rule for rule in roles if any("/status" in resource for resource in rule["resources"])] == []


def test_profiles_are_not_for_the_clusters_own_edit_and_admin() -> None:
    for role in of_kind(render(), "ClusterRole"):
        aggregated = any("aggregate-to" in label for label in role["metadata"]["labels"])
        writes = [
            rule for rule in role["rules"] if "trainingprofiles" in rule["resources"] and "create" in rule["verbs"]
        ]
        assert not (aggregated and writes)


@pytest.mark.parametrize(("replicas", "budgets"), [(1, 0), (2, 1)])
def test_a_single_replica_may_be_drained(replicas: int, budgets: int) -> None:
    assert len(of_kind(render("", f"replicas={replicas}"), "PodDisruptionBudget")) == budgets


def test_every_selector_finds_the_operator() -> None:
    manifests = render()
    pod = named(manifests, "Deployment", "trimtab")["spec"]["template"]["metadata"]["labels"]
    selectors = [service["spec"]["selector"] for service in of_kind(manifests, "Service")]
    selectors += [
        each["spec"][key]["matchLabels"]
        for kind, key in (
            ("PodDisruptionBudget", "selector"),
            ("NetworkPolicy", "podSelector"),
            ("Deployment", "selector"),
        )
        for each in of_kind(manifests, kind)
    ]
    assert len(selectors) == 5
    assert all(selector.items() <= pod.items() for selector in selectors)


@pytest.mark.parametrize(("values", "guarded"), [("", 0), ("ci/guarded.yaml", 1)])
def test_trainers_behind_a_policy_on_request(values: str, guarded: int) -> None:
    policies = [
        policy
        for policy in of_kind(render(values), "NetworkPolicy")
        if policy["metadata"]["name"] == "trimtab-trainers"
    ]
    assert len(policies) == guarded
    assert all(policy["spec"]["policyTypes"] == ["Ingress", "Egress"] for policy in policies)


def test_the_environment_is_what_the_operator_reads() -> None:
    container = named(render(), "Deployment", "trimtab")["spec"]["template"]["spec"]["containers"][0]
    environment = {each["name"]: str(each.get("value", "from the pod")) for each in container["env"]}
    settings, defaults = Settings.from_environment(environment), Settings()
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"status": settings.status_port, "probes": settings.probe_port, "metrics": settings.metrics_port}
    assert settings.status_url == "https://trimtab-status.trimtab-system.svc:8443"
    assert settings.trainer_image == "trimtab-trainer:0.1.0"
    assert (settings.workers, settings.progress_interval) == (defaults.workers, defaults.progress_interval)
    assert settings.sweep_interval == defaults.sweep_interval
    assert settings.tls_directory == defaults.tls_directory
    assert settings.leader_election is True
    assert settings.watch_namespaces == ()
    read = (CHART.parents[1] / "operator/trimtab_operator/settings.py").read_text()
    read += (CHART.parents[1] / "operator/trimtab_operator/__main__.py").read_text()
    assert [name for name in environment if name not in read] == []


def test_the_lease_that_it_may_update_is_the_one_that_it_uses() -> None:
    container = named(render(), "Deployment", "trimtab")["spec"]["template"]["spec"]["containers"][0]
    environment = {each["name"]: each.get("value") for each in container["env"]}
    leases = [rule["resourceNames"][0] for _, rule in rules_of("", only_operator=True) if rule.get("resourceNames")]
    assert leases == [environment["TRIMTAB_LEASE_NAME"]]


def test_crds_are_upgraded_and_kept() -> None:
    crds = of_kind(render(), "CustomResourceDefinition")
    assert len(crds) == 5
    assert {crd["metadata"]["annotations"]["helm.sh/resource-policy"] for crd in crds} == {"keep"}
    assert of_kind(render("", "crds.install=false"), "CustomResourceDefinition") == []


@pytest.mark.parametrize(
    ("setting", "made"),
    [
        pytest.param("tls.validityDays=30", ["Secret"], id="made by the chart"),
        pytest.param("tls.existingSecret=mine", [], id="brought along"),
        pytest.param("tls.certManager.enabled=true", ["Certificate", "Issuer"], id="cert-manager, self-signed"),
        pytest.param(
            "tls.certManager.enabled=true,tls.certManager.issuerRef.name=mine", ["Certificate"], id="cert-manager"
        ),
    ],
)
def test_the_certificate(setting: str, made: list[str]) -> None:
    manifests = render("", setting)
    assert sorted(each["kind"] for each in of_kind(manifests, "Secret", "Certificate", "Issuer")) == made
    mounted = named(manifests, "Deployment", "trimtab")["spec"]["template"]["spec"]["volumes"][0]["secret"][
        "secretName"
    ]
    assert mounted == ("mine" if "existingSecret" in setting else "trimtab-status-tls")


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        pytest.param("nonsense=1", "nonsense", id="unknown value"),
        pytest.param("image.tag=latest", "/image/tag", id="latest"),
        pytest.param("image.digest=abc", "/image/digest", id="no digest"),
        pytest.param("replicas=0", "/replicas", id="no replica"),
        pytest.param("watchNamespaces={A_b}", "/watchNamespaces/0", id="no namespace"),
        pytest.param("logLevel=loud", "/logLevel", id="log level"),
    ],
)
def test_values_are_checked(setting: str, says: str) -> None:
    with pytest.raises(HelmError, match=says):
        render("", setting)


def test_an_image_by_digest() -> None:
    image = named(render("ci/namespaced.yaml"), "Deployment", "trimtab")["spec"]["template"]["spec"]["containers"][0][
        "image"
    ]
    assert image == f"trimtab-operator:0.1.0@sha256:{'0' * 64}"


def test_the_charts_version_is_the_packages() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = (CHART.parents[1] / "pyproject.toml").read_text()
    assert f'version = "{chart["appVersion"]}"' in project


def test_no_registry_is_named() -> None:
    for path in (CHART / "values.yaml", CHART / "templates" / "deployment.yaml"):
        assert not any(host in path.read_text() for host in ("docker.io", "ghcr.io", "quay.io", "gcr.io"))
