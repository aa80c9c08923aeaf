"""Whole models on vLLM: who has servers, who answers, and what goes when."""

from typing import Any

import pytest
from tests.support.gateway import BAD_IMAGE, GATEWAY, SERVING, GatewayWorld
from tests.support.kserve import whole

from trimtab_operator.api.v1alpha1 import Reason
from trimtab_operator.state import Problem, Sample
from trimtab_trainer.contract.canary import CanaryJobConfig
from trimtab_trainer.contract.exit_codes import TrainerReason

HALF: dict[str, Any] = {"strategy": {"canary": {"steps": [{"setWeight": 50}, {"pause": {}}]}}}


def watched(provider: dict[str, Any]) -> dict[str, Any]:
    metric = {"name": "errors", "provider": provider, "successCondition": "result < 0.1"}
    return {"strategy": {"canary": {"steps": [{"setWeight": 20}, {"analysis": {"metrics": [metric]}}]}}}


QUERY = {"prometheus": {"address": "http://prometheus:9090", "query": "errors{{canary}}"}}
ASKED = {"job": {"metric": "exact_match", "data": {"uri": "s3://data/test.jsonl"}}}


def serving(**spec: Any) -> GatewayWorld:
    world = GatewayWorld(version=1, **spec).settle()
    assert (world.status.stable_version, world.answers) == (1, {1: 100}), world.wire
    return world


def with_image(image: str) -> dict[str, Any]:
    return {"vllm": SERVING["vllm"] | {"image": image}}


def test_the_first_version_serves_when_its_servers_and_the_gateway_say_so() -> None:
    world = serving()
    assert (world.ready, world.status.url) == (("True", "Stable"), "tone.example.com")
    assert {each.version: each.weight for each in world.status.weights} == {1: 100}


def test_servers_that_are_not_heard_are_told() -> None:
    world = GatewayWorld(version=1)
    world.silent = {1}
    world.settle()
    assert (world.ready, world.status.stable_version) == (("False", "ServersSilent"), None)


def test_a_canary_gets_nothing_before_its_servers_are_ready_and_then_its_weight() -> None:
    world = serving(**HALF).change(version=2)
    assert world.seen == [{1: 100}, {1: 50, 2: 50}]
    assert {each.version: each.weight for each in world.status.weights} == {1: 50, 2: 50}
    world.act("promote")
    assert (world.answers, world.status.stable_version, world.ready) == ({2: 100}, 2, ("True", "Stable"))
    assert (world.servers, world.ports) == ([2], [2]), "what was stable is gone"
    assert not world.lost


def test_nothing_is_promoted_before_the_gateway_follows() -> None:
    world = serving(**HALF).change(version=2)
    world.is_away = True
    world.act("promote")
    assert (world.answers, world.told, world.status.stable_version) == ({1: 50, 2: 50}, {1: 0, 2: 100}, 1)
    assert world.servers == [1, 2]
    world.is_away = False
    assert (world.settle().answers, world.status.stable_version, world.servers) == ({2: 100}, 2, [2])
    assert not world.lost


def test_what_was_rolled_back_stays_until_the_gateway_has_heard_of_it() -> None:
    world = serving(**HALF).change(version=2)
    world.is_away = True
    world.act("abort")
    assert (world.answers, world.servers) == ({1: 50, 2: 50}, [1, 2]), "the Gateway still sends requests to both"
    world.is_away = False
    assert (world.settle().answers, world.servers) == ({1: 100}, [1])
    assert not world.lost


def test_a_canary_that_never_becomes_ready_takes_no_traffic() -> None:
    world = serving(**HALF)
    world.slow = {2}
    world.change(version=2)
    assert (world.answers, world.status.state) == ({1: 100}, "Progressing")
    assert world.servers == [1, 2]
    world.change(version=3)
    assert (world.answers, world.servers) == ({1: 50, 3: 50}, [1, 3]), "its accelerators are free for the next one"


def test_a_canary_that_goes_down_gets_no_requests_meanwhile() -> None:
    world = serving(**HALF).change(version=2)
    gone = world.reported.pop("tone-server-v2")
    world.slow = {2}
    world.settle()
    assert (world.answers, world.told) == ({1: 100}, {1: 50, 2: 50})
    world.slow, world.reported["tone-server-v2"] = set(), gone
    assert world.settle().answers == {1: 50, 2: 50}


@pytest.mark.parametrize("provider", [QUERY, {"server": {"metric": "errorRate"}}])
def test_a_failed_analysis_takes_all_traffic_back(provider: dict[str, Any]) -> None:
    world = serving(**watched(provider))
    world.samples = {"errors": Sample(result=0.5)}
    world.change(version=2)
    assert (world.answers, world.status.state, world.servers) == ({1: 100}, "RolledBack", [1])
    assert "Metric errors of step 1" in world.message
    world.samples = {"errors": Sample(result=0.0)}
    assert world.act("retry").answers == {2: 100}
    assert not world.lost


def test_a_job_asks_each_version_at_its_own_address() -> None:
    world = serving(**watched(ASKED)).change(version=2)
    (job,) = world.jobs.values()
    (text,) = job["spec"]["template"]["metadata"]["annotations"].values()
    config = CanaryJobConfig.model_validate_json(text)
    assert config.endpoint == "http://tone-server-v2.demo.svc"
    assert config.stable_endpoint == "http://tone-server-v1.demo.svc"


def test_a_bad_image_stops_nothing_that_serves_and_the_fix_comes_through() -> None:
    world = serving(**HALF)
    world.change(version=2, serving=with_image(BAD_IMAGE))
    assert (world.answers, world.status.state, world.ready[1]) == ({1: 100}, "Degraded", "ImagePullFailed")
    assert "spec.serving.vllm.image" in world.message
    assert world.change(serving=with_image("vllm:2")).answers == {1: 50, 2: 50}
    assert not world.lost


def test_a_first_version_that_cannot_start_makes_room_for_the_fix() -> None:
    world = GatewayWorld(version=1)
    world.slow = {1}
    world.settle()
    assert (world.servers, world.status.state) == ([1], "Progressing")
    world.change(version=2)
    assert (world.servers, world.answers, world.ready) == ([2], {2: 100}, ("True", "Stable"))


def test_bytes_that_do_not_hold_are_told_in_the_routers_words() -> None:
    world = serving(**HALF)
    world.refused = {2: TrainerReason.DIGEST_MISMATCH}
    world.change(version=2)
    assert (world.answers, world.ready) == ({1: 100}, ("False", "VersionRefused"))
    assert "support-tone-v2: DigestMismatch" in world.message
    assert world.change(version=3).answers == {1: 50, 3: 50}


def test_another_base_model_can_be_weighed_too() -> None:
    world = serving(**HALF)
    world.versions[2] = whole(2, **{"spec.baseModel.uri": "s3://models/other"})
    assert world.change(version=2).answers == {1: 50, 2: 50}


def test_a_stable_version_that_is_gone_as_an_object_answers_until_the_next_one_can() -> None:
    world = serving()
    del world.versions[1]
    world.slow = {2}
    world.change(version=2)
    assert (world.answers, world.servers) == ({1: 100}, [1, 2])
    world.slow = set()
    assert (world.settle().answers, world.servers) == ({2: 100}, [2])
    assert not world.lost


@pytest.mark.parametrize("reason", [Reason.GATEWAY_API_NOT_INSTALLED, Reason.GATEWAY_API_NOT_PERMITTED])
def test_what_is_missing_is_told_and_the_rollout_goes_on_when_it_is_there(reason: Reason) -> None:
    world = GatewayWorld(version=1)
    world.problem = Problem(reason, "Gateway API is not there.", who="platform")
    world.settle()
    assert (world.ready, world.status.state, world.servers) == (("False", reason.value), "Pending", [])
    assert world.plan.requeue_after is not None, "nothing else would wake it"
    world.problem = None
    assert world.settle().answers == {1: 100}


def test_a_gateway_api_that_goes_takes_no_servers_away() -> None:
    world = serving()
    world.problem = Problem(Reason.GATEWAY_API_NOT_INSTALLED, "Gateway API is not there.", who="platform")
    assert (world.settle().servers, world.ready[1]) == ([1], "GatewayAPINotInstalled")
    world.problem = None
    assert world.settle().ready == ("True", "Stable")


def test_a_route_that_the_gateway_does_not_take_is_told_in_its_words() -> None:
    world = GatewayWorld(version=1)
    world.refusal = "no listener lets this namespace in"
    world.settle()
    assert (world.ready, world.status.state) == (("False", "RouteNotAccepted"), "Unavailable")
    assert "Gateway 'public' says Accepted=False: NotAllowedByListeners: no listener lets" in world.message
    world.refusal = ""
    assert world.settle().ready == ("True", "Stable")


def test_a_route_that_somebody_changed_is_set_right() -> None:
    world = serving(**HALF).change(version=2)
    assert world.route is not None
    world.route["spec"]["rules"][0]["backendRefs"][1]["weight"] = 100
    world.route["metadata"]["generation"] += 1
    assert world.settle().answers == {1: 50, 2: 50}


def test_other_hostnames_reach_the_route() -> None:
    world = serving()
    world.change(serving={"vllm": SERVING["vllm"] | {"gateway": GATEWAY | {"hostnames": ["other.example.com"]}}})
    assert world.route is not None
    assert world.route["spec"]["hostnames"] == ["other.example.com"]
    assert (world.ready, world.status.url) == (("True", "Stable"), "other.example.com")
