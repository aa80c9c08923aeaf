"""Which version serves, which is on its way in: passes over a rollout whose servers follow what they are told."""

import math
from dataclasses import replace
from typing import Any

import pytest
from tests.support.rollout_world import RolloutWorld, serving, stepping
from tests.support.rollouts import SETTINGS, make_version

from trimtab_operator.api.v1alpha1 import ModelRollout
from trimtab_operator.plan.model_rollout.compose import make_plan
from trimtab_operator.state import Sample, fit_on_one_server
from trimtab_trainer.contract.exit_codes import TrainerReason

TEN = {"setWeight": 10}
HALF = {"setWeight": 50}
WAIT = {"pause": {}}
UNPROMOTABLE = [
    {"type": "Verified", "status": "True", "reason": "BytesVerified", "lastTransitionTime": "2026-01-01T00:00:00Z"},
    {
        "type": "Promotable", "status": "False", "reason": "NotPromotable", "message": "Gate eval_loss: 3.1 > 2.",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    },
]  # fmt: skip


def analysis(**metric: Any) -> dict[str, Any]:
    known = {
        "name": "errors",
        "provider": {"server": {"metric": "errorRate"}},
        "successCondition": "result <= 0.05",
        "interval": "10s",
    }
    return {"analysis": {"metrics": [known | metric]}}


def test_the_first_version_serves_when_a_server_has_loaded_it() -> None:
    world = RolloutWorld(version=1)
    world.following = False
    world.settle()
    assert (world.status.stable_version, world.ready) == (None, ("False", "Progressing"))
    world.following = True
    world.settle()
    assert (world.status.stable_version, world.told, world.ready) == (1, {1: 100}, ("True", "Stable"))
    assert world.outcomes() == [(1, "Promoted")]


def test_the_first_version_may_be_bad_and_the_fix_goes_through() -> None:
    world = RolloutWorld(version=1)
    world.refused = {1: TrainerReason.DIGEST_MISMATCH}
    world.settle()
    assert (world.status.state, world.ready) == ("Unavailable", ("False", "VersionRefused"))
    assert "does not load support-tone-v1: DigestMismatch: bad" in world.message
    world.change(version=2)
    assert (world.status.stable_version, world.ready) == (2, ("True", "Stable"))


def test_without_steps_all_traffic_moves_when_the_version_is_loaded() -> None:
    world = serving().change(version=2)
    assert world.revisions == [{1: 100}, {1: 100, 2: 0}, {1: 0, 2: 100}, {2: 100}]
    assert (world.status.stable_version, world.status.canary_version, world.ready) == (2, None, ("True", "Stable"))


def test_steps_one_after_the_other() -> None:
    world = stepping(TEN, {"pause": {"duration": "30s"}}, HALF, WAIT)
    assert (world.told, world.status.current_step_index, world.status.state) == ({1: 90, 2: 10}, 1, "Paused")
    assert world.plan.requeue_after is not None
    assert world.plan.requeue_after.total_seconds() == 15, "a server may fall silent meanwhile"
    world.advance(29)
    assert (world.told, world.plan.requeue_after.total_seconds()) == ({1: 90, 2: 10}, 1)
    world.advance(1)
    assert (world.told, world.status.current_step_index) == ({1: 50, 2: 50}, 3)
    assert "pause until somebody promotes" in world.message
    world.advance(100_000).act("promote")
    assert (world.status.stable_version, world.told, world.ready) == (2, {2: 100}, ("True", "Stable"))
    assert world.outcomes() == [(2, "Promoted"), (1, "Promoted")]
    assert [reason for reason in world.reasons() if reason in ("CanaryStarted", "WeightChanged", "Stable")] == [
        "Stable", "CanaryStarted", "WeightChanged", "WeightChanged", "WeightChanged", "Stable",
    ]  # fmt: skip


def test_a_step_waits_until_every_server_follows() -> None:
    world = serving(strategy={"canary": {"steps": [TEN, WAIT]}})
    world.following = False
    world.change(version=2)
    assert (world.told, world.status.current_step_index) == ({1: 100, 2: 0}, 0)
    assert "0 of 1 servers have loaded support-tone-v2" in world.message
    world.follow()
    world.settle()
    assert (world.told, world.status.current_step_index) == ({1: 90, 2: 10}, 0)
    assert world.status.weights[0].weight == 100
    world.follow()
    world.settle()
    assert world.status.current_step_index == 1
    assert [each.weight for each in world.status.weights] == [90, 10]


def test_a_version_that_a_server_refuses_gets_no_traffic() -> None:
    world = serving(strategy={"canary": {"steps": [TEN]}})
    world.refused = {2: TrainerReason.DIGEST_MISMATCH}
    world.change(version=2)
    assert (world.status.state, world.ready, world.told) == ("Degraded", ("False", "VersionRefused"), {1: 100, 2: 0})
    world.change(version=3)
    assert (world.status.stable_version, world.outcomes()[:2]) == (3, [(3, "Promoted"), (2, "Superseded")])


def test_a_server_that_says_nothing_stops_the_steps() -> None:
    world = stepping(TEN, WAIT)
    assert world.status.current_step_index == 1
    world.following = False
    world.report, silent = None, world._pods
    world._pods = lambda: tuple(
        pod | {"status": {"conditions": [{"type": "Ready", "status": "True"}]}} for pod in silent()
    )
    world.change(version=3)
    assert world.ready == ("False", "ServersSilent")
    assert "port 8443" in world.message


def test_a_restart_of_the_operator_forgets_nothing_and_blames_nobody() -> None:
    world = stepping(TEN, {"pause": {"duration": "60s"}}, HALF, WAIT)
    before = world.wire
    world.following, report = False, world.report
    world.report, world.listening_since, pods = None, world.now, world._pods
    world._pods = lambda: tuple(
        pod | {"status": {"conditions": [{"type": "Ready", "status": "True"}]}} for pod in pods()
    )
    world.settle()
    assert world.ready[1] != "ServersSilent"
    world.following, world.report = True, report
    world.settle()
    assert world.wire == before
    world.advance(60)
    assert world.told == {1: 50, 2: 50}


@pytest.mark.parametrize(
    ("sample", "state", "reason", "told"),
    [
        pytest.param(Sample(result=0.01), "Stable", "Stable", {2: 100}, id="good"),
        pytest.param(Sample(result=0.4), "RolledBack", "AnalysisFailed", {1: 100}, id="bad"),
        pytest.param(Sample(waits="too few"), "Progressing", "Analyzing", {1: 90, 2: 10}, id="too early"),
    ],
)
def test_an_analysis_decides(sample: Sample, state: str, reason: str, told: dict[int, int]) -> None:
    world = serving(strategy={"canary": {"steps": [TEN, analysis()]}})
    world.samples = {"errors": sample}
    world.change(version=2)
    world.advance(1)
    assert (world.status.state, world.ready[1], world.told) == (state, reason, told)


@pytest.mark.parametrize("result", [None, math.nan])
def test_who_says_what_no_value_means_is_believed(result: float | None) -> None:
    world = serving(strategy={"canary": {"steps": [TEN, analysis(successCondition="default(result, 0) <= 0.05")]}})
    world.samples = {"errors": Sample(result=result)}
    world.change(version=2)
    assert (world.status.state, world.told) == ("Stable", {2: 100})


def test_a_failed_analysis_says_the_numbers_and_stays_failed() -> None:
    world = serving(strategy={"canary": {"steps": [TEN, analysis(count=3, failureLimit=1)]}})
    world.samples = {"errors": Sample(result=0.4, champion=0.01)}
    world.change(version=2)
    assert world.told == {1: 90, 2: 10}
    world.advance(10)
    assert world.told == {1: 100}
    for words in (
        "Metric errors of step 1",
        "result 0.4",
        "champion 0.01",
        "`result <= 0.05`",
        "2 failed, failureLimit 1",
    ):
        assert words in world.message
    assert "Version 1 goes on serving" in world.message
    assert world.outcomes()[0] == (2, "RolledBack")
    assert world.status.condition("Stalled").status == "True"  # type: ignore[union-attr]
    assert ("Warning", "AnalysisFailed") in [(event.type, event.reason) for event in world.events]
    writes = len(world.events)
    world.advance(3600)
    assert (world.told, len(world.events)) == ({1: 100}, writes), "it stays as it is"


def test_an_analysis_counts_across_passes() -> None:
    world = serving(strategy={"canary": {"steps": [TEN, analysis(count=3)]}})
    world.samples = {"errors": Sample(result=0.01)}
    world.change(version=2)
    assert world.measured == ["errors"]
    world.advance(5)
    assert world.measured == ["errors"]
    world.advance(5)
    world.advance(10)
    assert (world.measured, world.status.stable_version) == (["errors"] * 3, 2)


@pytest.mark.parametrize(
    ("metric", "sample", "reason"),
    [
        pytest.param({"failureCondition": "result > 0.5"}, Sample(result=0.2), "AnalysisInconclusive", id="between"),
        pytest.param({"consecutiveErrorLimit": 0}, Sample(error="no route"), "AnalysisError", id="cannot be measured"),
        pytest.param({"consecutiveErrorLimit": 0}, Sample(), "AnalysisError", id="no value"),
        pytest.param({"consecutiveErrorLimit": 0}, Sample(result=math.nan), "AnalysisError", id="no number"),
        pytest.param(
            {"successCondition": "result <= champion", "consecutiveErrorLimit": 0}, Sample(result=0.2), "AnalysisError",
            id="nothing to compare with",
        ),
    ],
)  # fmt: skip
def test_what_says_nothing_about_the_model_waits_for_a_person(
    metric: dict[str, Any], sample: Sample, reason: str
) -> None:
    world = serving(strategy={"canary": {"steps": [TEN, analysis(**metric)]}})
    world.samples = {"errors": sample}
    world.change(version=2)
    assert (world.status.state, world.ready[1], world.told) == ("Paused", reason, {1: 90, 2: 10})
    world.samples = {"errors": Sample(result=0.0, champion=1.0)}
    world.advance(1000)
    assert world.told == {1: 90, 2: 10}
    world.act("retry")
    assert world.status.stable_version == 2


def test_a_dry_run_decides_nothing_and_is_shown() -> None:
    world = serving(strategy={"canary": {"steps": [TEN, analysis(dryRun=True), WAIT]}})
    world.samples = {"errors": Sample(result=0.9)}
    world.change(version=2)
    assert world.status.current_step_index == 2
    assert [(result.phase, result.dry_run) for result in world.status.analysis] == [("Failed", True)]


SAME_VERSION = {"version": 1}
NEXT_VERSION = {"version": 3}


@pytest.mark.parametrize(
    ("spec", "stable", "told", "last"),
    [
        pytest.param(SAME_VERSION, 1, {1: 100}, (2, "Superseded"), id="back to what serves"),
        pytest.param({"abort": True}, 1, {1: 100}, (2, "Aborted"), id="abort"),
        pytest.param({"version": 9}, 1, {1: 100}, (2, "Superseded"), id="a version that does not exist"),
    ],
)
def test_a_new_spec_ends_a_canary_at_once(
    spec: dict[str, Any], stable: int, told: dict[int, int], last: tuple[int, str]
) -> None:
    world = stepping(HALF, WAIT).change(**spec)
    assert (world.status.stable_version, world.told, world.outcomes()[0]) == (stable, told, last)


def test_another_version_takes_the_canarys_place() -> None:
    world = stepping(HALF, WAIT).change(**NEXT_VERSION)
    assert world.told == {1: 50, 3: 50}
    assert {1: 100, 3: 0} in world.revisions, "the new one begins without traffic"
    assert world.outcomes()[0] == (2, "Superseded")


def test_an_abort_that_is_taken_back_begins_anew() -> None:
    world = stepping(HALF, WAIT).change(abort=True)
    assert (world.status.state, world.ready[1]) == ("RolledBack", "Aborted")
    assert world.act("retry").told == {1: 100}, "spec.abort outranks the action"
    world.change(abort=False)
    assert (world.told, world.status.current_step_index) == ({1: 50, 2: 50}, 1)


def test_paused_in_the_spec_holds_the_weights() -> None:
    world = stepping({"pause": {"duration": 10}}, HALF, WAIT, paused=True)
    world.advance(1000)
    assert (world.told, world.status.state) == ({1: 100, 2: 0}, "Paused")
    world.change(paused=False)
    assert world.told == {1: 50, 2: 50}


def test_other_steps_begin_anew() -> None:
    world = stepping(HALF, WAIT)
    world.change(strategy={"canary": {"steps": [TEN, WAIT]}})
    assert (world.told, world.status.current_step_index) == ({1: 90, 2: 10}, 1)


@pytest.mark.parametrize(("revisions", "returns"), [(0, False), (1, True)])
def test_the_rollback_window(revisions: int, *, returns: bool) -> None:
    world = stepping(HALF, WAIT, rollbackWindow={"revisions": revisions}).act("promote-full")
    assert world.status.stable_version == 2
    world.change(version=1)
    assert (world.status.stable_version == 1) is returns


def test_a_version_that_may_not_be_promoted_is_kept_out() -> None:
    world = serving()
    world.versions[2] = make_version(2, conditions=UNPROMOTABLE)
    world.change(version=2)
    assert (world.ready[1], world.told, world.status.canary) == ("NotPromotable", {1: 100}, None)
    assert "Gate eval_loss: 3.1 > 2." in world.message


def test_a_canary_whose_bytes_turn_out_wrong_is_taken_away() -> None:
    world = stepping(HALF, WAIT)
    world.versions[2] = make_version(2, conditions=UNPROMOTABLE)
    world.settle()
    assert (world.told, world.status.canary) == ({1: 100}, None)
    world.versions[2] = make_version(2)
    world.settle()
    assert world.told == {1: 50, 2: 50}


def test_a_version_that_is_being_deleted_serves_on_and_begins_nowhere() -> None:
    world = serving()
    for number in (1, 2):
        world.versions[number] = make_version(number, {"metadata.deletionTimestamp": "2026-01-01T00:00:00Z"})
    assert world.settle().ready == ("True", "Stable")
    world.change(version=2)
    assert (world.ready[1], world.told, world.status.canary) == ("ModelVersionNotReady", {1: 100}, None)
    assert world.change(version=3).status.stable_version == 3


OTHER_BASE = make_version(2, {"spec.baseModel.uri": "s3://models/other"})


@pytest.mark.parametrize(
    ("base", "fits"),
    [
        pytest.param({}, True, id="the same"),
        pytest.param({"digest": ""}, True, id="an import that does not say its digest"),
        pytest.param({"digest": f"sha256:{1:064}"}, False, id="other bytes"),
        pytest.param({"uri": "s3://models/other"}, False, id="another model"),
        pytest.param({"revision": "abc"}, False, id="another commit"),
    ],
)
def test_what_fits_on_one_server(base: dict[str, str], *, fits: bool) -> None:
    other = make_version(2, {f"spec.baseModel.{key}": value for key, value in base.items()})
    assert fit_on_one_server(make_version(1), other) is fits


def test_another_base_model_takes_new_servers() -> None:
    world = serving()
    world.versions[2] = OTHER_BASE
    before = world.deployment
    world.change(version=2)
    assert world.deployment != before
    assert (world.status.stable_version, world.told) == (2, {2: 100})


def test_another_base_model_cannot_be_weighed() -> None:
    world = serving(strategy={"canary": {"steps": [HALF]}})
    world.versions[2] = OTHER_BASE
    world.change(version=2)
    assert (world.ready[1], world.told) == ("NotCompatible", {1: 100})
    assert world.change(strategy={"canary": {}}).status.stable_version == 2


def test_moving_traffic_makes_no_new_servers() -> None:
    world = serving(strategy={"canary": {"steps": [TEN, WAIT]}})
    before = world.deployment
    assert before is not None
    for change in (lambda: world.change(version=2), lambda: world.act("promote-full"), lambda: world.change(version=1)):
        change()
        assert world.deployment is not None
        assert world.deployment["spec"] == before["spec"]


@pytest.mark.parametrize(
    ("action", "told", "stable"),
    [
        pytest.param("promote", {1: 50, 2: 50}, 1, id="promote ends the pause"),
        pytest.param("resume", {1: 50, 2: 50}, 1, id="resume too"),
        pytest.param("skip-step", {1: 50, 2: 50}, 1, id="skip the step"),
        pytest.param("promote-full", {2: 100}, 2, id="all of it"),
        pytest.param("abort", {1: 100}, 1, id="abort"),
        pytest.param("pause", {1: 90, 2: 10}, 1, id="pause"),
        pytest.param("abort # 2026-01-01, by anna", {1: 100}, 1, id="with a remark"),
        pytest.param("explode", {1: 90, 2: 10}, 1, id="unknown"),
    ],
)
def test_actions(action: str, told: dict[int, int], stable: int) -> None:
    world = stepping(TEN, WAIT, HALF, WAIT).act(action)
    assert (world.told, world.status.stable_version) == (told, stable)
    assert world.status.action is not None
    assert world.status.action.value == action
    assert world.status.action.result.startswith("Ignored") is (action == "explode")
    handled, before = world.status.action, world.wire
    world.advance(60)
    assert (world.status.action, world.wire) == (handled, before), "once and no more"


def test_actions_one_after_the_other() -> None:
    world = stepping(TEN, WAIT, HALF, WAIT)
    assert world.act("skip-step").told == {1: 50, 2: 50}
    assert world.act("skip-step").told == {1: 50, 2: 50}, "the same value says nothing new"
    assert world.act("abort:1").status.state == "RolledBack"
    assert world.act("promote").told == {1: 100}, "what was rolled back is retried, not promoted"
    assert world.act("retry").told == {1: 90, 2: 10}
    assert world.act("pause").act("promote-full:2").status.stable_version == 2
    assert world.act("abort:2").status.stable_version == 2
    assert world.status.action is not None
    assert "no version is on its way in" in world.status.action.result


def test_the_last_pause_and_the_held_canary() -> None:
    world = stepping(TEN, {"pause": {"duration": "10s"}}).act("pause").advance(60)
    assert world.told == {1: 90, 2: 10}
    assert world.act("resume").status.stable_version == 2


def test_a_condition_that_cannot_be_read_is_refused_before_anything_moves() -> None:
    unreadable = {"canary": {"steps": [TEN, analysis(successCondition="accuracy > 1")]}}
    world = serving().change(version=2, strategy=unreadable)
    assert (world.ready[1], world.told) == ("SpecInvalid", {1: 100})
    for words in ("steps[1].analysis", "successCondition of metric errors", "names 'accuracy'"):
        assert words in world.message


def test_deleting_while_it_moves_plans_nothing() -> None:
    world = stepping(HALF, WAIT)
    assert world.plan.apply
    body = world.rollout.to_json()
    body["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    going = replace(world.observed, rollout=ModelRollout.parse(body))
    assert make_plan(going, (), settings=SETTINGS, now=world.now).apply == ()
