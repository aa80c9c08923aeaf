"""Whatever happens, in whatever order: looking twice changes nothing, and what is settled stays settled."""

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.builders import checkpoint, make_job, make_report, success
from tests.support.world import World

from trimtab_operator.state import Manifest

ACTIONS = st.sampled_from(
    [
        "advance",
        "advance",
        "pass",
        "run",
        "say",
        "suspend",
        "resume",
        "fail",
        "crash",
        "succeed",
        "remove",
        "vanish",
        "unready",
        "queue",
    ]
)


def act(world: World, action: str, seconds: int) -> None:
    """One thing that may happen now; what makes no sense now does nothing."""
    match action:
        case "advance":
            world.advance(seconds)
        case "pass":
            world.one_pass()
        case "suspend" | "resume":
            world.change(suspend=action == "suspend")
    if world.status.open_attempt and world.status.open_attempt.job_name in world.jobs:
        happen_to_job(world, action)
        happen_to_pods(world, action, seconds)


def happen_to_job(world: World, action: str) -> None:
    job = world.newest_job()
    deleting = "deletionTimestamp" in job["metadata"]
    match action:
        case "run" if not pods_of(world) and not deleting and not job["spec"].get("suspend"):
            world.run()
        case "remove" if deleting:
            world.remove_job()
        case "vanish":
            world.remove_job()
        case "queue":
            job["spec"]["suspend"] = not job["spec"].get("suspend")
            world.settle()


def happen_to_pods(world: World, action: str, seconds: int) -> None:
    pods = pods_of(world)
    if not pods or any(pod["status"]["phase"] != "Running" for pod in pods):
        return
    number = world.status.attempts[-1].number
    match action:
        case "say":
            saved = [checkpoint(seconds, attempt=number)]
            world.say(make_report(attempt=number, checkpoints=saved, progress={"step": seconds}))
        case "fail" | "crash":
            world.fail(143 if action == "fail" else 1)
        case "succeed":
            if not world.status.model_version:
                world.reserve()
            world.succeed(success())
        case "unready":
            pods[0]["metadata"]["deletionTimestamp"] = "2026-11-21T12:00:00Z"
            world.settle()


def pods_of(world: World) -> list[Manifest]:
    """Pods of the newest attempt."""
    name = world.status.attempts[-1].job_name
    return [pod for pod in world.pods.values() if pod["metadata"]["name"].startswith(f"{name}-")]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(ACTIONS, st.integers(min_value=0, max_value=400)), max_size=25))
def test_any_life(steps: list[tuple[str, int]]) -> None:
    world = World(make_job(runPolicy={"maxAttempts": 4})).settle()
    numbers: list[int] = []
    for action, seconds in steps:
        rest = world.wire if world.status.is_finished else None
        act(world, action, seconds)
        world.settle()
        status = world.status
        assert rest is None or without_generation(world.wire) == without_generation(rest), "a job at rest does not move"
        # A second look writes nothing and says nothing.
        writes, events = world.writes, len(world.events)
        assert not world.one_pass()
        assert (world.writes, len(world.events)) == (writes, events)
        # Attempts only grow, one by one, and at most one is open.
        numbers, before = [attempt.number for attempt in status.attempts], numbers
        assert numbers == list(range(1, len(numbers) + 1))
        assert numbers[: len(before)] == before
        assert all(attempt.end_time for attempt in status.attempts[:-1])
        # A Job exists only for an attempt whose number is stored.
        assert {job["metadata"]["name"] for job in world.jobs.values()} <= {
            attempt.job_name for attempt in status.attempts
        }
        # At most one Job may make pods.
        living = [
            job
            for job in world.jobs.values()
            if "deletionTimestamp" not in job["metadata"] and not job["status"].get("conditions")
        ]
        assert len(living) <= 1
        assert sum(status.is_true(kind) for kind in ("Ready", "Reconciling", "Stalled")) <= 1
        assert sum(status.is_true(kind) for kind in ("Complete", "Failed", "Suspended")) <= 1


def without_generation(wire: Manifest) -> Manifest:
    """A job at rest notes that it has seen an edit of its run policy."""
    return {key: value for key, value in wire.items() if key != "observedGeneration"}
