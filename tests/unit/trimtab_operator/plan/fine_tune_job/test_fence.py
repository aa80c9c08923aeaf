"""No Job before its number is stored; the first one right after that, without a pass of its own."""

import pytest
from tests.support.builders import make_job, make_profile
from tests.support.machine import Machine
from tests.support.world import World

from trimtab_operator.errors import RetryableError


def kinds(manifests: tuple[dict[str, object], ...]) -> list[object]:
    return [manifest["kind"] for manifest in manifests]


@pytest.mark.parametrize(
    ("nodes", "following"), [(1, ["Job"]), (2, ["Service", "Job"])], ids=["one pod", "several pods"]
)
def test_what_follows_is_what_the_next_pass_would_create(nodes: int, following: list[str]) -> None:
    world = World(make_job(distribution={"nodes": nodes}), profile=make_profile(limits={"maxNodes": 2}))
    world.one_pass()
    claiming = world.plan
    world.one_pass()

    assert kinds(claiming.prepare) == ["ConfigMap"]
    assert kinds(claiming.follow) == following
    assert claiming.create == ()
    assert world.plan.create == claiming.prepare + claiming.follow


def test_a_later_attempt_waits_for_a_pass_of_its_own() -> None:
    """What the last report said may be stored in the same pass, and belongs into its configuration."""
    world = World().settle().run().fail(31).remove_job()
    plans = []
    for _ in range(6):
        world.now = world.now.replace(hour=world.now.hour + 1)
        world.one_pass()
        plans.append(world.plan)

    assert len(world.status.attempts) == 2
    assert all(plan.follow == () for plan in plans)


async def test_a_status_that_is_not_stored_is_followed_by_nothing() -> None:
    machine = Machine().given()

    def refuses_the_claim(verb: str, kind: str, _name: str) -> None:
        if (verb, kind) == ("replace", "FineTuneJob"):
            raise RetryableError("the API server is busy")

    machine.api.before = refuses_the_claim
    await machine.look()
    await machine.settle()

    assert machine.api.find("ConfigMap", "demo", "sample-a1") is not None
    assert machine.api.find("Job", "demo", "sample-a1") is None
