"""Leader election by a Lease: one replica reconciles, the others keep their Store warm.

Every call has a deadline shorter than the Lease, time is measured by a monotonic clock, and whoever cannot renew in time
stops for good. The Lease keeps replicas from working twice; what makes a double harmless is the attempt number (docs/architecture.md).
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from trimtab_operator import metrics
from trimtab_operator.cluster.client import Client
from trimtab_operator.cluster.resources import resource_of
from trimtab_operator.errors import AlreadyExistsError, ConflictError, NotFoundError, OperatorError
from trimtab_operator.state import Manifest

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds. A leader that cannot renew gives up `renew_deadline` after its last success, before the Lease runs out."""

    lease: float = 15.0
    renew_deadline: float = 10.0
    retry: float = 2.0


class Leases(Protocol):
    """Where the Lease is kept."""

    async def read(self) -> Manifest:
        """The Lease as it is."""
        ...

    async def create(self, spec: Manifest) -> Manifest:
        """Make the Lease."""
        ...

    async def replace(self, lease: Manifest) -> Manifest:
        """Write the Lease if nobody else has."""
        ...


class ApiLeases:
    """The Lease in the API server."""

    def __init__(self, client: Client, *, namespace: str, name: str) -> None:
        self._client = client
        self._metadata = {"namespace": namespace, "name": name}

    async def read(self) -> Manifest:
        """The Lease as it is."""
        return await self._client.get(resource_of("Lease"), self._metadata["namespace"], self._metadata["name"])

    async def create(self, spec: Manifest) -> Manifest:
        """Make the Lease."""
        manifest = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": dict(self._metadata),
            "spec": spec,
        }
        return await self._client.create(manifest)

    async def replace(self, lease: Manifest) -> Manifest:
        """Write the Lease if nobody else has."""
        return await self._client.replace(lease)


class Elector:
    """One replica's view of the Lease."""

    def __init__(
        self,
        leases: Leases,
        identity: str,
        *,
        timing: Timing = Timing(),
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.identity = identity
        self.holder = ""
        """Who leads, as far as we know."""
        self._leases = leases
        self._timing = timing
        self._clock = clock
        self._sleep = sleep
        self._lease: Manifest = {}
        self._seen: tuple[str, str] | None = None
        """Holder and renew time of the Lease when it last changed."""
        self._seen_at = 0.0
        self._renewed_at = 0.0

    @property
    def leading(self) -> bool:
        """Whether this replica may act now."""
        return self.holder == self.identity and self._clock() - self._renewed_at < self._timing.renew_deadline

    def lease_age(self) -> float:
        """Seconds since this replica renewed the Lease."""
        return self._clock() - self._renewed_at if self.holder == self.identity else 0.0

    async def acquire(self) -> None:
        """Return when this replica leads."""
        while not await self._try():
            await self._sleep(self._timing.retry * (0.8 + 0.4 * random.random()))  # noqa: S311 - no secret
        metrics.LEADER.set(1)
        _LOG.info("leadership_acquired identity=%s", self.identity)

    async def hold(self) -> None:
        """Renew; return when the Lease is lost."""
        while self._clock() - self._renewed_at < self._timing.renew_deadline:
            await self._sleep(self._timing.retry)
            await self._try()
            metrics.LEASE_AGE_SECONDS.set(self.lease_age())
            if self.holder != self.identity:
                break
        metrics.LEADER.set(0)
        _LOG.error("leadership_lost identity=%s holder=%s", self.identity, self.holder)

    async def release(self) -> None:
        """Give the Lease back, so that a successor need not wait for it to run out."""
        if self.holder != self.identity or not self._lease:
            return
        spec = {**self._lease["spec"], "holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _now()}
        try:
            async with asyncio.timeout(self._timing.retry):
                await self._leases.replace({**self._lease, "spec": spec})
        except (OperatorError, TimeoutError) as error:
            _LOG.warning("lease_not_released identity=%s error=%s", self.identity, error)
        else:
            _LOG.info("lease_released identity=%s", self.identity)
        self.holder = ""

    async def _try(self) -> bool:
        """Take or renew the Lease if it may be taken. True: we hold it."""
        try:
            # The time of a success is the time before the request: a slow answer must not prolong the Lease.
            started = self._clock()
            async with asyncio.timeout(self._timing.retry):
                return await self._take(started)
        except (ConflictError, AlreadyExistsError):
            # Somebody else was faster; the next round sees who.
            self._lease = {}
            return False
        except (OperatorError, TimeoutError) as error:
            self._lease = {}
            _LOG.warning("lease_unreachable identity=%s error=%r", self.identity, str(error) or type(error).__name__)
            return False

    async def _take(self, started: float) -> bool:
        try:
            # A leader's own copy is current unless somebody else wrote: then the write conflicts.
            lease = self._lease if self.holder == self.identity and self._lease else await self._leases.read()
        except NotFoundError:
            self._won(await self._leases.create(self._spec({})), started)
            return True
        spec = lease.get("spec") or {}
        holder = spec.get("holderIdentity") or ""
        seen = (holder, str(spec.get("renewTime", "")))
        if seen != self._seen:
            self._seen, self._seen_at = seen, started
        self.holder = holder
        age = started - self._seen_at
        if holder not in ("", self.identity) and age < float(spec.get("leaseDurationSeconds") or self._timing.lease):
            return False
        self._won(await self._leases.replace({**lease, "spec": self._spec(spec)}), started)
        return True

    def _won(self, lease: Manifest, started: float) -> None:
        self._lease, self.holder, self._renewed_at = lease, self.identity, started

    def _spec(self, before: Manifest) -> Manifest:
        ours = before.get("holderIdentity") == self.identity
        return {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": int(self._timing.lease),
            "acquireTime": before.get("acquireTime", _now()) if ours else _now(),
            "renewTime": _now(),
            "leaseTransitions": int(before.get("leaseTransitions") or 0) + (0 if ours else 1),
        }


def _now() -> str:
    """For people: the election itself does not trust wall clocks."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
