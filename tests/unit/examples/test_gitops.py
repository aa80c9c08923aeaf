"""GitOps tools see what is: kstatus's rules and Argo CD's Lua over objects of every state, and the example repository."""

import copy
import os
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from lupa import LuaRuntime
from tests.support.cluster import Manifest
from tests.support.gitops import ALL, Recorded
from tests.support.kstatus import kstatus
from tests.support.rollout_world import RolloutWorld, serving, stepping

from trimtab_operator.api.v1alpha1 import KINDS, FineTuneJob, ModelRollout, ModelVersion
from trimtab_operator.api.v1alpha1.fine_tune_job import JobState
from trimtab_operator.plan.model_rollout.actions import ACTIONS
from trimtab_operator.status.model_rollout.situation import State as RolloutState

GITOPS = Path(__file__).parents[3] / "examples" / "gitops"
ARGO = GITOPS / "argocd"
MODELS = {"FineTuneJob": FineTuneJob, "ModelRollout": ModelRollout, "ModelVersion": ModelVersion}
STEPS = ({"setWeight": 10}, {"pause": {}}, {"setWeight": 50}, {"pause": {}})


def run(script: str, body: Manifest) -> Any:
    """Run a script of Argo CD over an object, as Argo CD does: the object is the global `obj`."""
    lua = LuaRuntime(unpack_returned_tuples=True)
    lua.globals().obj = to_lua(lua, body)
    return to_python(lua.execute((ARGO / script).read_text()))


def to_lua(lua: LuaRuntime, value: Any) -> Any:
    if isinstance(value, dict):
        return lua.table_from({key: to_lua(lua, inner) for key, inner in value.items() if inner is not None})
    if isinstance(value, list):
        return lua.table_from([to_lua(lua, inner) for inner in value])
    return value


def to_python(value: Any) -> Any:
    if not hasattr(value, "items"):
        return value
    entries = dict(value.items())
    if entries and all(isinstance(key, int) for key in entries):
        return [to_python(entries[key]) for key in sorted(entries)]
    return {key: to_python(inner) for key, inner in entries.items()}


# ── What is told about an object ──


@pytest.mark.parametrize("recorded", ALL, ids=lambda recorded: recorded.name)
def test_kstatus(recorded: Recorded) -> None:
    assert kstatus(recorded.body) == recorded.kstatus


@pytest.mark.parametrize("recorded", ALL, ids=lambda recorded: recorded.name)
def test_flux(recorded: Recorded) -> None:
    """As kstatus says, but what waits for a person on purpose holds up nothing behind it."""
    expected = "Current" if recorded.argo == "Suspended" else recorded.kstatus
    assert kstatus(recorded.body, GITOPS / "flux" / "kustomization.yaml") == expected


@pytest.mark.parametrize("recorded", ALL, ids=lambda recorded: recorded.name)
def test_argo_cd_health(recorded: Recorded) -> None:
    health = run("health.lua", recorded.body)
    assert (health["status"], bool(health["message"])) == (recorded.argo, True)


def test_every_state_of_every_kind_is_among_them() -> None:
    states = {(recorded.body["kind"], recorded.state) for recorded in ALL if recorded.state}
    words = {"FineTuneJob": JobState, "ModelRollout": RolloutState}
    known = {(kind, state) for kind, literal in words.items() for state in get_args(literal)}
    # No pass ends with a job that could start and does not.
    assert states == known - {("FineTuneJob", "Pending")}
    assert {recorded.body["kind"] for recorded in ALL} == {kind.resource.kind for kind in KINDS}


def test_every_reading_is_among_them() -> None:
    """What a version's conditions can say, in place of a word."""
    conditions = {
        (condition["type"], condition["status"])
        for recorded in ALL
        if recorded.body["kind"] == "ModelVersion"
        for condition in recorded.body["status"].get("conditions", [])
    }
    wanted = {(kind, status) for kind in ("Ready", "Verified", "Promotable") for status in ("True", "False")}
    assert conditions >= wanted | {("Verified", "Unknown"), ("Reclaimed", "False")}


def test_health_says_why_a_version_may_not_serve() -> None:
    body = next(recorded.body for recorded in ALL if recorded.name == "version, not promotable")
    assert run("health.lua", body)["message"].startswith("Not promotable: ")


@pytest.mark.parametrize("recorded", ALL, ids=lambda recorded: recorded.name)
def test_the_trio_never_contradicts_itself(recorded: Recorded) -> None:
    conditions = {item["type"]: item["status"] for item in recorded.body["status"].get("conditions", [])}
    if not conditions:
        return
    ready, moves, stuck = (conditions[kind] == "True" for kind in ("Ready", "Reconciling", "Stalled"))
    assert not (stuck and (ready or moves))
    assert not (ready and moves) or recorded.body["kind"] == "ModelVersion", "one that serves may be looked at again"
    assert all(item["observedGeneration"] is not None for item in recorded.body["status"]["conditions"])


# ── What can be done ──


def body_of(world: RolloutWorld) -> Manifest:
    body: Manifest = world.rollout.to_json()
    return {**body, "kind": "ModelRollout", "status": world.wire}


def enabled(world: RolloutWorld) -> set[str]:
    found = run("actions/ModelRollout/discovery.lua", body_of(world))
    assert set(found) == set(ACTIONS)
    return {name for name, action in found.items() if not action["disabled"]}


MOVING = {"abort", "promote", "promote-full", "skip-step"}


@pytest.mark.parametrize(
    ("world", "names"),
    [
        pytest.param(serving(), set(), id="stable"),
        pytest.param(stepping(*STEPS), MOVING | {"pause", "resume"}, id="waits at a pause"),
        pytest.param(stepping(*STEPS).act("pause"), MOVING | {"resume"}, id="held"),
        pytest.param(stepping(*STEPS).act("abort"), {"retry"}, id="rolled back"),
    ],
)
def test_which_actions_are_offered(world: RolloutWorld, names: set[str]) -> None:
    assert enabled(world) == names


@pytest.mark.parametrize(
    ("before", "action", "told", "state"),
    [
        pytest.param((), "promote", {1: 50, 2: 50}, "Paused", id="promote"),
        pytest.param((), "skip-step", {1: 50, 2: 50}, "Paused", id="skip-step"),
        pytest.param((), "promote-full", {2: 100}, "Stable", id="promote-full"),
        pytest.param((), "abort", {1: 100}, "RolledBack", id="abort"),
        pytest.param((), "pause", {1: 90, 2: 10}, "Paused", id="pause"),
        pytest.param(("pause",), "resume", {1: 90, 2: 10}, "Paused", id="resume"),
        pytest.param(("abort",), "retry", {1: 90, 2: 10}, "Paused", id="retry"),
    ],
)
def test_an_action_is_carried_out(before: tuple[str, ...], action: str, told: dict[int, int], state: str) -> None:
    """Argo CD's Lua changes the object, the operator's passes follow it."""
    world = stepping(*STEPS)
    for earlier in before:
        world.act(earlier)
    changed = run(f"actions/ModelRollout/{action}.lua", body_of(world))
    value = changed["metadata"]["annotations"]["rollouts.trimtab.dev/action"]
    assert value.startswith(f"{action}@20"), "the time makes the same action a new value"
    world.act(value)
    assert (world.told, world.status.state) == (told, state)
    assert world.status.action is not None
    assert world.status.action.value == value


@pytest.mark.parametrize(
    ("name", "names"),
    [
        pytest.param("job, running", {"suspend"}, id="running"),
        pytest.param("job, suspended", {"resume"}, id="suspended"),
        pytest.param("job, complete", set(), id="complete"),
        pytest.param("job, failed", set(), id="failed"),
        pytest.param("FineTuneJob, just created", {"suspend"}, id="just created"),
    ],
)
def test_a_job_is_suspended_and_resumed(name: str, names: set[str]) -> None:
    body = next(recorded.body for recorded in ALL if recorded.name == name)
    found = run("actions/FineTuneJob/discovery.lua", body)
    assert {action for action, about in found.items() if not about["disabled"]} == names
    for action in names:
        changed = run(f"actions/FineTuneJob/{action}.lua", body)
        assert changed["spec"]["suspend"] is (action == "suspend")


def test_every_action_of_a_rollout_has_its_script() -> None:
    assert {path.stem for path in (ARGO / "actions" / "ModelRollout").glob("*.lua")} == {*ACTIONS, "discovery"}


# ── Files ──


class Block(yaml.SafeDumper):
    """Scripts as blocks, readable."""


Block.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)


def config_map() -> str:
    """`argocd-cm.yaml`, made of the scripts."""
    data = {"resource.customizations.useOpenLibs.trimtab.dev_ModelRollout": "true"}
    for kind in (
        "FineTuneJob",
        "FineTuneSchedule",
        "FineTuneSweep",
        "ModelRollout",
        "ModelVersion",
        "StorageProfile",
        "TrainingProfile",
    ):
        data[f"resource.customizations.health.trimtab.dev_{kind}"] = (ARGO / "health.lua").read_text()
    for folder in sorted((ARGO / "actions").iterdir()):
        definitions = [
            {"name": path.stem, "action.lua": path.read_text()}
            for path in sorted(folder.glob("*.lua"))
            if path.stem != "discovery"
        ]
        actions = {"discovery.lua": (folder / "discovery.lua").read_text(), "definitions": definitions}
        text = yaml.dump(actions, Dumper=Block, sort_keys=False, width=160)
        data[f"resource.customizations.actions.trimtab.dev_{folder.name}"] = text
    manifest = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "argocd-cm", "namespace": "argocd"},
        "data": dict(sorted(data.items())),
    }
    head = (
        "# Made from the Lua files beside it (TRIMTAB_UPDATE_GOLDEN=1 pytest tests/unit/examples). Merge it into your Argo CD:\n"
        "#   kubectl -n argocd patch configmap argocd-cm --patch-file examples/gitops/argocd/argocd-cm.yaml\n"
    )
    return head + yaml.dump(manifest, Dumper=Block, sort_keys=False, width=160)


def test_the_config_map_has_the_scripts() -> None:
    file = ARGO / "argocd-cm.yaml"
    if os.environ.get("TRIMTAB_UPDATE_GOLDEN"):
        file.write_text(config_map())
    assert file.read_text() == config_map()


def built(environment: str) -> dict[tuple[str, str], Manifest]:
    """What `kustomize build` makes of an environment, as far as these files use it: resources, and patches by name."""
    folder = GITOPS / "repository" / environment
    found: dict[tuple[str, str], Manifest] = {}
    plan = yaml.safe_load((folder / "kustomization.yaml").read_text())
    for resource in plan.get("resources", []):
        path = folder / resource
        found |= built(f"{environment}/{resource}") if path.is_dir() else {key(body): body for body in documents(path)}
    for patch in plan.get("patches", []):
        for body in documents(folder / patch["path"]):
            found[key(body)] = merged(found[key(body)], body)
    for body in found.values():
        if "namespace" in plan:
            body["metadata"]["namespace"] = plan["namespace"]
    return found


def documents(path: Path) -> list[Manifest]:
    return list(yaml.safe_load_all(path.read_text()))


def key(body: Manifest) -> tuple[str, str]:
    return body["kind"], body["metadata"]["name"]


def merged(base: Any, patch: Any) -> Any:
    if not isinstance(base, dict) or not isinstance(patch, dict):
        return copy.deepcopy(patch)
    return {**base, **{name: merged(base.get(name), value) for name, value in patch.items()}}


@pytest.mark.parametrize("environment", ["dev", "staging", "prod"])
def test_the_example_repository(environment: str) -> None:
    """Every environment has objects of our kinds that parse strictly, and a rollout of a version that it has or trains."""
    found = built(environment)
    for (kind, _), body in found.items():
        model = MODELS[kind]
        model.model_fields["spec"].annotation.model_validate(body["spec"])  # type: ignore[union-attr]
        assert body["metadata"]["namespace"] == f"models-{environment}"
    rollout = found["ModelRollout", "triage"]["spec"]
    named = f"{rollout['modelName']}-v{rollout['version']}"
    assert ("ModelVersion", named) in found or environment == "dev"
    assert bool(rollout.get("strategy")) == (environment == "prod"), "only prod moves in steps"
