"""A rollout on KServe: what is written to the InferenceService, and who answers meanwhile."""

from typing import Any

import pytest
from tests.support.kserve import KServe, KServeWorld, inference_service, uri_of

from trimtab_operator.api.v1alpha1 import Reason
from trimtab_operator.state import Problem, Sample

HALF: dict[str, Any] = {"strategy": {"canary": {"steps": [{"setWeight": 50}, {"pause": {}}]}}}
QUERY = {"prometheus": {"address": "http://prometheus:9090", "query": "errors{{canary}}"}}
WATCHED: dict[str, Any] = {
    "strategy": {
        "canary": {
            "steps": [
                {"setWeight": 20},
                {"analysis": {"metrics": [{"name": "errors", "provider": QUERY, "successCondition": "result < 0.1"}]}},
            ]
        }
    }
}


def serving(**spec: Any) -> KServeWorld:
    world = KServeWorld(version=1, **spec).settle()
    assert (world.status.stable_version, world.answers) == (1, {1: 100}), world.wire
    return world


def predictor(world: KServeWorld) -> tuple[str, int]:
    assert world.body is not None
    fields = world.body["spec"]["predictor"]
    return fields["model"]["storageUri"], fields["canaryTrafficPercent"]


def test_the_first_version_serves_when_kserve_says_so() -> None:
    world = serving()
    assert world.ready == ("True", "Stable")
    assert world.status.url == "http://tone.demo.example"
    assert world.status.weights[0].weight == 100


def test_the_users_fields_stay() -> None:
    world = serving()
    assert world.body is not None
    assert world.body["spec"]["predictor"]["minReplicas"] == 1
    assert world.body["spec"]["predictor"]["model"]["modelFormat"] == {"name": "huggingface"}
    (merge,) = world.plan.merge
    assert set(merge["spec"]) == {"predictor"}
    assert set(merge["spec"]["predictor"]) == {"model", "canaryTrafficPercent"}
    assert set(merge["spec"]["predictor"]["model"]) == {"storageUri"}
    assert not world.plan.apply


def test_a_canary_gets_nothing_before_it_is_loaded_and_then_its_weight() -> None:
    world = serving(**HALF).change(version=2)
    assert world.answers == {1: 50, 2: 50}
    assert {each.version: each.weight for each in world.status.weights} == {1: 50, 2: 50}
    assert world.seen == [{}, {1: 100}, {1: 50, 2: 50}]
    world.act("promote")
    assert (world.answers, world.status.stable_version, world.ready) == ({2: 100}, 2, ("True", "Stable"))


def test_without_steps_traffic_moves_when_the_version_is_loaded() -> None:
    world = serving().change(version=2)
    assert (world.answers, world.status.stable_version) == ({2: 100}, 2)


def test_an_abort_takes_all_traffic_back_at_once() -> None:
    world = serving(**HALF).change(version=2)
    world.kserve.slow = True
    world.act("abort")
    assert (world.answers, world.status.state) == ({1: 100}, "RolledBack")
    assert predictor(world) == (uri_of(2), 0)
    world.kserve.slow = False
    assert world.act("retry").answers == {1: 50, 2: 50}


def test_a_failed_analysis_takes_all_traffic_back() -> None:
    world = serving(**WATCHED)
    world.samples = {"errors": Sample(result=0.5)}
    world.change(version=2)
    assert (world.answers, world.status.state) == ({1: 100}, "RolledBack")
    assert "Metric errors of step 1" in world.message


def test_back_to_the_stable_version_the_canary_answers_nothing_meanwhile() -> None:
    world = serving(**HALF).change(version=2)
    world.seen.clear()
    world.change(version=1)
    assert world.seen == [{1: 50, 2: 50}, {1: 100}], "the stable model's new revision changes nothing for users"
    assert (predictor(world), world.ready) == ((uri_of(1), 100), ("True", "Stable"))


def test_a_model_that_kserve_cannot_load_is_told_and_the_fix_comes_through() -> None:
    world = serving(**HALF)
    world.kserve.bad = {uri_of(2)}
    world.change(version=2)
    assert (world.status.state, world.ready) == ("Degraded", ("False", "VersionRefused"))
    assert "KServe does not load support-tone-v2: ModelLoadFailed: config.json is missing: exit code 1" in world.message
    assert world.answers == {1: 100}
    world.change(version=3)
    assert world.answers == {1: 50, 3: 50}


def test_another_version_takes_the_canarys_place() -> None:
    world = serving(**HALF).change(version=2)
    world.seen.clear()
    world.change(version=3)
    assert world.answers == {1: 50, 3: 50}
    assert world.seen == [{1: 50, 2: 50}, {1: 100}, {1: 50, 3: 50}]


def test_another_base_model_can_be_weighed_too() -> None:
    world = serving(**HALF)
    other = world.versions[2].spec.base_model.model_copy(update={"uri": "s3://models/other"})
    spec = world.versions[2].spec.model_copy(update={"base_model": other})
    world.versions[2] = world.versions[2].model_copy(update={"spec": spec})
    assert world.change(version=2).answers == {1: 50, 2: 50}


@pytest.mark.parametrize(
    "reason", [Reason.KSERVE_NOT_INSTALLED, Reason.INFERENCE_SERVICE_NOT_FOUND, Reason.KSERVE_NOT_PERMITTED]
)
def test_what_is_missing_is_told_and_the_rollout_goes_on_when_it_is_there(reason: Reason) -> None:
    world = KServeWorld(version=1)
    world.problem = Problem(reason, "KServe is not there.", who="platform")
    world.following = False
    world.settle()
    assert (world.ready, world.status.state) == (("False", reason.value), "Pending")
    assert world.plan.requeue_after is not None, "nothing else would wake it"
    world.problem, world.following = None, True
    assert world.settle().answers == {1: 100}


def test_a_restart_of_kserves_pods_moves_nothing() -> None:
    world = serving()
    assert world.body is not None
    world.body["status"]["modelStatus"] = {"transitionStatus": "InProgress"}
    world.following = False
    world.settle()
    assert predictor(world) == (uri_of(1), 100)


def test_in_standard_mode_only_the_model_is_written() -> None:
    world = KServeWorld(version=1)
    world.kserve = KServe("Standard")
    world.body = inference_service(mode="Standard")
    world.body["metadata"]["uid"] = "isvc-1"
    world.settle()
    assert (world.status.stable_version, world.ready) == (1, ("True", "Stable"))
    world.change(version=2)
    assert (world.status.stable_version, world.ready) == (2, ("True", "Stable"))
    assert world.body["spec"]["predictor"]["model"]["storageUri"] == uri_of(2)
    assert "canaryTrafficPercent" not in world.body["spec"]["predictor"]


def test_in_standard_mode_a_model_that_cannot_be_loaded_is_told() -> None:
    world = KServeWorld(version=1)
    world.kserve = KServe("Standard")
    world.kserve.bad = {uri_of(2)}
    world.body = inference_service(mode="Standard")
    world.body["metadata"]["uid"] = "isvc-1"
    world.settle().change(version=2)
    assert (world.status.stable_version, world.ready) == (1, ("False", "VersionRefused"))
    assert world.change(version=3).status.stable_version == 3
