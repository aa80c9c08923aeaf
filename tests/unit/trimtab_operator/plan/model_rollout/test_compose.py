import json
from typing import Any

import pytest
from tests.support.rollouts import (
    SETTINGS,
    make_profile,
    make_rollout,
    make_storage,
    make_version,
    observed,
    plan_for,
    planned,
)
from tests.support.times import NOW

from trimtab_operator import names
from trimtab_operator.api.v1alpha1 import Reason
from trimtab_operator.plan.model_rollout.compose import make_plan
from trimtab_operator.state import Manifest, ObservedRollout, Problem
from trimtab_trainer.contract import mounts
from trimtab_trainer.contract.run_config import ServerConfig

TWO = make_rollout({"spec.version": 2})


def config_of(world: ObservedRollout) -> ServerConfig:
    """What the planned pods read."""
    template = planned(world, "Deployment")["spec"]["template"]["metadata"]
    data = planned(world, "ConfigMap")["data"]
    return ServerConfig.model_validate_json(data[f"{template['annotations'][names.SERVER_CONFIG_ANNOTATION]}.json"])


def pod_of(world: ObservedRollout) -> Manifest:
    spec: Manifest = planned(world, "Deployment")["spec"]["template"]["spec"]
    return spec


def test_a_rollout_has_a_service_and_servers() -> None:
    children = plan_for(observed()).apply
    assert [(child["kind"], child["metadata"]["name"]) for child in children] == [
        ("ConfigMap", "tone-server"),
        ("Service", "tone"),
        ("Deployment", "tone-server"),
    ]


def test_the_service_listens_on_80_and_finds_the_servers() -> None:
    service, deployment = planned(observed(), "Service"), planned(observed(), "Deployment")
    assert service["spec"]["ports"] == [
        {"name": "http", "port": 80, "targetPort": mounts.SERVER_PORT, "protocol": "TCP"}
    ]
    assert service["spec"]["selector"].items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    assert service["spec"]["selector"] == deployment["spec"]["selector"]["matchLabels"]


@pytest.mark.parametrize(("replicas", "budgets"), [(1, 0), (2, 1)])
def test_several_replicas_have_a_disruption_budget(replicas: int, budgets: int) -> None:
    world = observed(rollout=make_rollout({"spec.serving": {"builtin": {"replicas": replicas}}}))
    assert sum(child["kind"] == "PodDisruptionBudget" for child in plan_for(world).apply) == budgets
    assert planned(world, "Deployment")["spec"]["replicas"] == replicas


def test_the_server_learns_what_to_serve() -> None:
    config = config_of(observed(rollout=TWO))
    assert config.model_name == "support-tone"
    assert [(version.name, version.version, version.weight) for version in config.versions] == [
        ("support-tone-v2", 2, 100)
    ]
    assert config.versions[0].manifest_sha256 == f"{2:064}"
    assert config.base_model.digest.startswith("sha256:")
    assert config.store.bucket == "trimtab"
    assert config.termination_grace_seconds == 120


def test_the_pod_mounts_the_one_configuration_that_it_was_made_for() -> None:
    pod = pod_of(observed())
    volume = next(volume for volume in pod["volumes"] if volume["name"] == "config")
    assert volume["configMap"]["name"] == planned(observed(), "ConfigMap")["metadata"]["name"]
    (item,) = volume["configMap"]["items"]
    assert item["key"] in planned(observed(), "ConfigMap")["data"]
    mount = next(mount for mount in pod["containers"][0]["volumeMounts"] if mount["name"] == "config")
    assert f"{mount['mountPath']}/{item['path']}" == str(mounts.SERVER_CONFIG_FILE)
    assert "subPath" not in mount, "the kubelet renews links only"


def test_the_pod_knows_where_the_operator_listens() -> None:
    environment = {each["name"]: each for each in pod_of(observed())["containers"][0]["env"]}
    url = environment[mounts.SERVER_URL_VARIABLE]["value"]
    assert url.endswith("/v1alpha1/namespaces/demo/modelrollouts/tone/server"), url
    token = next(volume for volume in pod_of(observed())["volumes"] if volume["name"] == "status")
    assert token["projected"]["sources"][0]["serviceAccountToken"]["audience"] == mounts.STATUS_TOKEN_AUDIENCE


def test_a_missing_secret_keeps_the_container_from_starting() -> None:
    environment = pod_of(observed())["containers"][0]["env"]
    assert [each["valueFrom"]["secretKeyRef"]["name"] for each in environment if "valueFrom" in each] == [
        "trimtab-store"
    ]


def test_a_gated_base_model_is_opened_by_the_secret_that_the_version_names() -> None:
    gated = make_version(1, {"spec.baseModel": {"uri": "hf://org/model", "secretName": "hub-token"}})
    pod = pod_of(observed(versions=(gated,)))
    volume = next(volume for volume in pod["volumes"] if volume["name"] == "hub")
    assert volume["secret"]["secretName"] == "hub-token"
    mount = next(mount for mount in pod["containers"][0]["volumeMounts"] if mount["name"] == "hub")
    assert mount["mountPath"] == str(mounts.HUB_DIRECTORY)
    assert "hub" not in [volume["name"] for volume in pod_of(observed())["volumes"]]


def test_every_task_and_kind_of_adapter_is_served_by_the_length_it_was_trained_with() -> None:
    changes = {
        "spec.task": {"questionAnswering": {}},
        "spec.artifact.format": "trimtabAdapter",
        "spec.maxSequenceLength": 384,
    }
    config = config_of(observed(versions=(make_version(1, changes),)))
    assert config.task.question_answering is not None
    assert [(each.format, each.max_sequence_length) for each in config.versions] == [("trimtabAdapter", 384)]


def test_old_servers_stay_until_new_ones_are_ready() -> None:
    spec = planned(observed(), "Deployment")["spec"]
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    container = spec["template"]["spec"]["containers"][0]
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert "readyz" not in json.dumps(container["startupProbe"])


@pytest.mark.parametrize(
    ("profile", "image"),
    [
        pytest.param({}, "trainer:1", id="the operator's"),
        pytest.param({"spec.image": "mine:2"}, "mine:2", id="the profile's"),
        pytest.param(
            {"spec.image": "mine:2", "spec.serverImage": "server:3"}, "server:3", id="the profile's for servers"
        ),
    ],
)
def test_image(profile: dict[str, Any], image: str) -> None:
    container = pod_of(observed(profile=make_profile(profile)))["containers"][0]
    assert container["image"] == image
    assert container["resources"]["requests"] == {"cpu": "1"}


CHANGES = {
    "image": observed(profile=make_profile({"spec.serverImage": "server:3"})),
    "resources": observed(profile=make_profile({"spec.serverResources.limits": {"memory": "1Gi"}})),
    "store": observed(storage=make_storage({"spec.endpoint": "https://other.example"})),
    "base model": observed(versions=(make_version(1, {"spec.baseModel.uri": "hf://org/other"}),)),
}
SAME = {
    "version": observed(rollout=TWO),
    "sticky": observed(rollout=make_rollout({"spec.serving": {"builtin": {"sticky": False}}})),
    "replicas": observed(rollout=make_rollout({"spec.serving": {"builtin": {"replicas": 3}}})),
    "trainer resources": observed(profile=make_profile({"spec.resources.limits": {"memory": "1Gi"}})),
    "another version of the model": observed(versions=(make_version(1), make_version(2), make_version(3))),
    "labels of the rollout": observed(rollout=make_rollout({"metadata.labels": {"a": "b"}})),
}


@pytest.mark.parametrize("world", [pytest.param(world, id=name) for name, world in CHANGES.items()])
def test_what_needs_new_pods(world: ObservedRollout) -> None:
    assert hash_of(world) != hash_of(observed())


@pytest.mark.parametrize("world", [pytest.param(world, id=name) for name, world in SAME.items()])
def test_what_needs_no_new_pods(world: ObservedRollout) -> None:
    assert hash_of(world) == hash_of(observed())


def test_a_new_spec_outranks_what_is_not_ready() -> None:
    """Servers of version 1 crash; the plan for version 2 does not care."""
    waiting = observed(
        rollout=TWO, deployment=planned(observed(), "Deployment") | {"status": {"unavailableReplicas": 1}}
    )
    assert plan_for(waiting) == plan_for(observed(rollout=TWO))


@pytest.mark.parametrize(
    "world",
    [
        pytest.param(
            observed(rollout=make_rollout({"metadata.deletionTimestamp": "2026-01-01T00:00:00Z"})), id="being deleted"
        ),
        pytest.param(observed(versions=()), id="no version"),
        pytest.param(observed(profile=None), id="no profile"),
    ],
)
def test_nothing_is_planned(world: ObservedRollout) -> None:
    assert (plan_for(world).apply, plan_for(world).configs) == ((), {})


def test_with_a_problem_what_serves_goes_on() -> None:
    problems = (Problem(Reason.NOT_PROMOTABLE, "no"),)
    assert make_plan(observed(), problems, settings=SETTINGS, now=NOW).apply == ()
    stable = observed(rollout=make_rollout({"spec.version": 2}, stable=1))
    plan = make_plan(stable, problems, settings=SETTINGS, now=NOW)
    assert [version.version for config in plan.configs.values() for version in config.versions] == [1]


def test_the_longest_name_fits() -> None:
    world = observed(rollout=make_rollout({"metadata.name": "a" * 52}))
    assert all(len(child["metadata"]["name"]) <= 63 for child in plan_for(world).apply)


def hash_of(world: ObservedRollout) -> str:
    return str(
        planned(world, "Deployment")["spec"]["template"]["metadata"]["annotations"][names.CONFIG_HASH_ANNOTATION]
    )
