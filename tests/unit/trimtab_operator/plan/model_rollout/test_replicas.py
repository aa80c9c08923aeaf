"""A rollout over two servers: nothing goes on before both have followed, and what goes back goes back at once on both."""

from dataclasses import replace
from typing import Any

from tests.support.rollout_world import RolloutWorld

from trimtab_operator.state import Manifest, ObservedRollout, Sample, ServerNews
from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.serving import ServerReport

BOTH = ("server-1", "server-2")
SLOW = "server-2"
TEN, HALF, WAIT = {"setWeight": 10}, {"setWeight": 50}, {"pause": {}}
METRIC = {
    "name": "errors",
    "provider": {"server": {"metric": "errorRate"}},
    "successCondition": "result <= 0.05",
}


class TwoServers(RolloutWorld):
    """What the API server holds, and two server pods; a deaf one keeps to what it was told before."""

    def __init__(self, *steps: Manifest) -> None:
        strategy = {"canary": {"steps": list(steps)}}
        super().__init__(version=1, serving={"builtin": {"replicas": 2}}, strategy=strategy)
        self.reports: dict[str, ServerReport] = {}
        self.deaf: set[str] = set()
        self.settle()
        assert self.status.stable_version == 1

    @property
    def observed(self) -> ObservedRollout:
        news = tuple(ServerNews(pod, f"uid-{pod}", self.now, report) for pod, report in self.reports.items())
        return replace(super().observed, reports=news)

    def follow(self) -> bool:
        super().follow()
        listening = [pod for pod in BOTH if pod not in self.deaf]
        new = [pod for pod in listening if self.report is not None and self.reports.get(pod) != self.report]
        self.reports |= {pod: self.report for pod in new if self.report is not None}
        return bool(new)

    def hears_again(self) -> "TwoServers":
        self.deaf.clear()
        self.settle()
        return self

    def _pods(self) -> tuple[Manifest, ...]:
        return tuple(
            pod | {"metadata": pod["metadata"] | {"name": name, "uid": f"uid-{name}"}}
            for pod in super()._pods()
            for name in BOTH
        )

    def _live_deployment(self) -> Manifest | None:
        live = super()._live_deployment()
        if live is None:
            return None
        counts = {name: 2 * count for name, count in live["status"].items() if name != "observedGeneration"}
        return live | {"status": live["status"] | counts}


def confirmed(world: RolloutWorld) -> dict[int, int]:
    return {each.version: each.weight for each in world.status.weights}


def test_no_traffic_before_both_have_loaded_it() -> None:
    world = TwoServers(TEN, WAIT)
    world.deaf = {SLOW}
    world.change(version=2)
    assert (world.told, world.status.current_step_index) == ({1: 100, 2: 0}, 0)
    assert "1 of 2 servers have loaded support-tone-v2" in world.message
    world.hears_again()
    assert (world.told, confirmed(world), world.status.current_step_index) == ({1: 90, 2: 10}, {1: 90, 2: 10}, 1)


def test_one_that_cannot_load_it_keeps_it_from_both() -> None:
    world = TwoServers(TEN, WAIT)
    world.refused = {2: TrainerReason.DIGEST_MISMATCH}
    world.change(version=2)
    world.reports["server-1"] = _all_well(world.reports["server-1"])
    world.deaf = {"server-1"}
    world.settle()
    assert (world.ready, world.told) == (("False", "VersionRefused"), {1: 100, 2: 0})
    assert f"Server {SLOW} does not load support-tone-v2" in world.message


def test_a_step_ends_when_both_follow_its_weight() -> None:
    world = TwoServers(TEN, WAIT, HALF, WAIT)
    world.change(version=2)
    world.deaf = {SLOW}
    world.act("promote")
    assert (world.told, world.status.current_step_index) == ({1: 50, 2: 50}, 2)
    assert confirmed(world) == {1: 90, 2: 10}, "not before every server says so"
    world.hears_again()
    assert (confirmed(world), world.status.current_step_index) == ({1: 50, 2: 50}, 3)


def test_the_old_version_leaves_the_memory_when_neither_sends_it_requests() -> None:
    world = TwoServers(TEN, WAIT)
    world.change(version=2)
    world.deaf = {SLOW}
    world.act("promote-full")
    assert world.told == {1: 0, 2: 100}, "one still answers with version 1"
    world.hears_again()
    assert (world.told, world.ready) == ({2: 100}, ("True", "Stable"))


def test_what_fails_goes_back_without_waiting_for_anybody() -> None:
    world = TwoServers(TEN, {"analysis": {"metrics": [METRIC]}})
    world.samples["errors"] = Sample(waits="too few requests")
    world.change(version=2)
    assert confirmed(world) == {1: 90, 2: 10}
    world.deaf = {SLOW}
    world.samples["errors"] = Sample(result=0.4)
    world.advance(10)
    assert (world.status.state, world.told) == ("RolledBack", {1: 100})
    assert confirmed(world) != {1: 100}, "not before both say so"
    world.hears_again()
    assert (world.told, confirmed(world)) == ({1: 100}, {1: 100})


def _all_well(report: ServerReport) -> ServerReport:
    states = [state.model_copy(update={"state": "Ready", "reason": None}) for state in report.versions]
    found: Any = report.model_copy(update={"versions": states})
    assert isinstance(found, ServerReport)
    return found
