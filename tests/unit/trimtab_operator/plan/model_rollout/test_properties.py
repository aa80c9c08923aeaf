"""Whatever users, servers and time do, in whatever order: a rollout never gives traffic to what it may not."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.rollout_world import RolloutWorld, serving

from trimtab_operator.plan.model_rollout.actions import ACTIONS
from trimtab_operator.state import Sample
from trimtab_trainer.contract.exit_codes import TrainerReason

METRIC = {
    "name": "errors",
    "provider": {"server": {"metric": "errorRate"}},
    "successCondition": "result < 0.1",
    "failureCondition": "result > 0.5",
    "interval": "5s",
}
STEPS: list[dict[str, Any]] = [
    {"setWeight": 20},
    {"pause": {"duration": "10s"}},
    {"setWeight": 60},
    {"analysis": {"metrics": [METRIC]}},
    {"pause": {}},
]
SAMPLES = (Sample(result=0.0), Sample(result=0.3), Sample(result=0.9), Sample(error="away"), Sample(waits="too few"))

MOVES = st.one_of(
    st.tuples(st.just("version"), st.integers(1, 5)),
    st.tuples(st.just("abort"), st.booleans()),
    st.tuples(st.just("paused"), st.booleans()),
    st.tuples(st.just("steps"), st.integers(0, len(STEPS))),
    st.tuples(st.just("action"), st.sampled_from(ACTIONS)),
    st.tuples(st.just("sample"), st.sampled_from(SAMPLES)),
    st.tuples(st.just("refuse"), st.sets(st.integers(1, 4), max_size=2)),
    st.tuples(st.just("servers"), st.sampled_from(("follow", "ignore", "silent"))),
    st.tuples(st.just("time"), st.integers(1, 40)),
)


def make(world: RolloutWorld, kind: str, value: Any, number: int) -> None:
    match kind:
        case "version" | "abort" | "paused":
            world.change(**{kind: value})
        case "steps":
            world.change(strategy={"canary": {"steps": STEPS[:value]}})
        case "action":
            world.act(f"{value}:{number}")
        case "sample":
            world.samples = {"errors": value}
        case "refuse":
            # What a server has in memory it does not refuse any more.
            world.refused = dict.fromkeys(value - set(world.told), TrainerReason.DIGEST_MISMATCH)
        case "servers":
            world.following = value == "follow"
            world.report = None if value == "silent" else world.report
        case "time":
            world.advance(value)


def check(world: RolloutWorld, stable_before: int | None) -> None:
    status, told = world.status, world.told
    stable = status.stable_version
    assert stable is not None
    assert sum(told.values()) == 100
    assert stable in told, "what has proved itself stays in memory"
    assert set(told) <= {stable, world.spec["version"]}, "nothing else is served"
    assert len(told) <= 2
    canary = status.canary
    if canary is None or canary.rollback is not None:
        assert told == {stable: 100}
    else:
        assert canary.loaded or told == {stable: 100, canary.version: 0} or canary.version not in told
    if stable != stable_before:
        assert status.history[0].version == stable
        assert status.history[0].outcome == "Promoted"
    ready = status.condition("Ready")
    assert ready is not None
    assert (ready.status == "True") is (status.state == "Stable")
    assert ready.status == "False" or stable == world.spec["version"]
    assert len(status.history) <= 12


@settings(max_examples=60, deadline=None)
@given(st.lists(MOVES, max_size=14))
def test_whatever_happens(moves: list[tuple[str, Any]]) -> None:
    world = serving(strategy={"canary": {"steps": STEPS}})
    world.samples = {"errors": Sample(result=0.0)}
    for number, (kind, value) in enumerate(moves):
        before = world.status.stable_version
        make(world, kind, value, number)
        world.settle()
        check(world, before)
    # In the end a good version gets through, whatever was before.
    world.refused, world.following, world.samples = {}, True, {"errors": Sample(result=0.0)}
    world.change(version=4, abort=False, paused=False, strategy={"canary": {"steps": STEPS[:4]}})
    if world.status.canary is not None and world.status.canary.rollback is not None:
        world.act("retry:end")
    if world.status.canary is not None and (world.status.canary.held or world.status.canary.waits_for):
        world.act("promote-full:end")
    for _ in range(6):
        world.advance(20)
    assert (world.status.stable_version, world.ready) == (4, ("True", "Stable")), world.wire
