"""Leader election against a Lease in memory and a clock that tests turn."""

import asyncio
import itertools
from collections.abc import Callable

import pytest

from trimtab_operator.errors import AlreadyExistsError, ConflictError, NotFoundError, RetryableError
from trimtab_operator.leader import Elector, Timing
from trimtab_operator.state import Manifest

TIMING = Timing()


class Lease:
    """The API server's Lease, and the clock of the test."""

    def __init__(self) -> None:
        self.now = 100.0
        self.lease: Manifest | None = None
        self.away = False
        self.hangs = False
        self._versions = itertools.count(1)

    async def read(self) -> Manifest:
        await self._answer()
        if self.lease is None:
            raise NotFoundError("no lease")
        return self.lease

    async def create(self, spec: Manifest) -> Manifest:
        await self._answer()
        if self.lease is not None:
            raise AlreadyExistsError("lease")
        return self._store(spec)

    async def replace(self, lease: Manifest) -> Manifest:
        await self._answer()
        assert self.lease is not None
        if lease["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
            raise ConflictError("lease")
        return self._store(lease["spec"])

    @property
    def holder(self) -> str:
        return str(self.lease["spec"]["holderIdentity"]) if self.lease else ""

    def _store(self, spec: Manifest) -> Manifest:
        self.lease = {"metadata": {"resourceVersion": str(next(self._versions))}, "spec": spec}
        return self.lease

    async def _answer(self) -> None:
        if self.hangs:
            self.now += TIMING.retry
            raise TimeoutError
        if self.away:
            raise RetryableError("API server is away")

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)


def replica(lease: Lease, name: str = "one_10.0.0.1") -> Elector:
    return Elector(lease, name, clock=lambda: lease.now, sleep=lease.sleep)


async def rounds(elector: Elector, lease: Lease, seconds: float) -> bool:
    """Try every retry period for so long; whether it became leader."""
    until = lease.now + seconds
    while lease.now < until:
        if await elector._try():
            return True
        lease.now += TIMING.retry
    return False


async def test_the_first_one_leads() -> None:
    lease = Lease()
    one = replica(lease)

    await one.acquire()

    assert one.leading
    assert lease.holder == "one_10.0.0.1"


async def test_the_second_one_waits_and_knows_who_leads() -> None:
    lease = Lease()
    one, two = replica(lease), replica(lease, "two_10.0.0.2")
    await one.acquire()

    for _ in range(20):
        lease.now += TIMING.retry
        assert await one._try()
        assert not await two._try()

    assert two.holder == "one_10.0.0.1"
    assert not two.leading


@pytest.mark.parametrize(
    ("silent_for", "taken"),
    [
        pytest.param(13.0, False, id="the Lease still runs"),
        pytest.param(21.0, True, id="the Lease ran out"),
    ],
)
async def test_a_dead_leader_is_replaced_when_its_lease_runs_out(silent_for: float, *, taken: bool) -> None:
    lease = Lease()
    await replica(lease).acquire()

    assert await rounds(replica(lease, "two"), lease, silent_for) is taken


async def test_a_lease_that_looks_old_is_waited_for_all_the_same() -> None:
    """Wall clocks of replicas differ: only a Lease that was seen not to move for its time is dead."""
    lease = Lease()
    one = replica(lease)
    await one.acquire()
    assert lease.lease is not None
    lease.lease["spec"]["renewTime"] = "1999-01-01T00:00:00.000000Z"

    assert not await replica(lease, "two")._try()


async def test_a_lease_that_was_given_back_is_taken_at_once() -> None:
    lease = Lease()
    one, two = replica(lease), replica(lease, "two")
    await one.acquire()
    assert not await two._try()

    await one.release()
    assert lease.holder == ""
    assert not one.leading

    assert await two._try()


def goes_away(lease: Lease) -> None:
    lease.away = True


def hangs(lease: Lease) -> None:
    lease.hangs = True


def is_taken_over(lease: Lease) -> None:
    assert lease.lease is not None
    lease._store({**lease.lease["spec"], "holderIdentity": "thief"})


@pytest.mark.parametrize(
    ("happens", "within"),
    [
        pytest.param(goes_away, 14.0, id="the API server is away: before the Lease runs out"),
        pytest.param(hangs, 14.0, id="the API server hangs: before the Lease runs out"),
        pytest.param(is_taken_over, 6.0, id="somebody else took it"),
    ],
)
async def test_a_leader_that_cannot_renew_stops(happens: Callable[[Lease], None], within: float) -> None:
    lease = Lease()
    one = replica(lease)
    await one.acquire()
    happens(lease)
    lost_at = lease.now

    await one.hold()

    assert lease.now - lost_at <= within
    assert not one.leading


async def test_a_short_outage_is_survived() -> None:
    lease = Lease()
    one = replica(lease)
    await one.acquire()
    lease.away = True
    assert not await rounds(one, lease, 6)
    lease.away = False

    assert await one._try()
    assert one.leading


async def test_only_one_of_two_that_try_at_once_wins() -> None:
    lease = Lease()
    replicas = [replica(lease, name) for name in ("one", "two", "three")]

    won = await asyncio.gather(*(elector._try() for elector in replicas))

    assert sum(won) == 1


async def test_transitions_are_counted() -> None:
    lease = Lease()
    one, two = replica(lease), replica(lease, "two")
    await one.acquire()
    await one._try()
    await one.release()
    await two._try()

    assert lease.lease is not None
    assert lease.lease["spec"]["leaseTransitions"] == 2
