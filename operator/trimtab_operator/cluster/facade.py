"""What a reconcile may do with the cluster: observe, apply, report."""

import asyncio
from dataclasses import dataclass
from datetime import datetime

from trimtab_operator.cluster.apply import Applier
from trimtab_operator.cluster.client import Client
from trimtab_operator.cluster.events import EventWriter
from trimtab_operator.cluster.gateway import RouteReader
from trimtab_operator.cluster.kserve import InferenceReader
from trimtab_operator.cluster.measuring import Measuring
from trimtab_operator.cluster.observe import Observer
from trimtab_operator.cluster.rejections import Rejections
from trimtab_operator.cluster.report import Reporter, until_sent
from trimtab_operator.cluster.reports import Reports
from trimtab_operator.cluster.servers import Servers
from trimtab_operator.cluster.store import Store
from trimtab_operator.cluster.trim import Stored
from trimtab_operator.errors import AlreadyExistsError, GoingError, NotFoundError, RejectedError
from trimtab_operator.state import Outcome, Plan, RejectedWrite


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of a plan."""

    wrote: bool = False
    """The cluster is another one now: look again before saying what is true."""
    rejected: RejectedWrite | None = None
    """The API server refused an object."""


class Cluster:
    """The doors of the room, over one Store and one client."""

    def __init__(self, client: Client, store: Store, reports: Reports, servers: Servers, events: EventWriter) -> None:
        self.store = store
        self._client = client
        self.measure = Measuring(servers)
        self.inference = InferenceReader(client)
        self.route = RouteReader(client)
        self._reports = reports
        self._servers = servers
        self._rejections = Rejections()
        self._applier = Applier(client, store)
        self._reporter = Reporter(client, store, events)
        self.observe = Observer(store, reports, servers, self._rejections)

    async def apply(self, plan: Plan, owner: Stored, *, now: datetime) -> Applied:
        """Carry out a plan. A refusal is no error: the status tells it, and it is tried again."""
        try:
            wrote = await self._applier.apply(plan, owner)
        except RejectedError as error:
            write = RejectedWrite(reason=error.reason, message=str(error), kind=owner.kind, at=now)
            return Applied(rejected=self._rejections.note(owner, write))
        if plan.create or plan.apply or plan.merge:
            self._rejections.clear(owner.uid)
        if plan.configs:
            self._servers.tell(owner.uid, plan.configs, report_seconds=plan.report_seconds)
        return Applied(wrote=wrote)

    async def report(self, outcome: Outcome, owner: Stored, *, plan: Plan | None = None) -> bool:
        """Store the status if it says something new, then post its Events. True: it was written.

        What the plan prepares is written beside it, which takes no time of its own; what follows from it, after both.
        """
        if plan is None or not plan.prepare:
            return await self._reporter.report(outcome, owner)
        preparing = asyncio.create_task(self._prepare(plan, owner))

        async def follow() -> None:
            if await preparing:
                await self._applier.attempt(plan.follow, owner)

        try:
            return await self._reporter.report(outcome, owner, follow=follow)
        finally:
            await preparing

    async def _prepare(self, plan: Plan, owner: Stored) -> bool:
        # The status takes the API server longest.
        await until_sent()
        return await self._applier.attempt(plan.prepare, owner)

    async def is_going(self, namespace: str) -> bool:
        """Whether a namespace is being deleted. Asked by a write that is not carried out: no right to read namespaces is needed."""
        probe = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "trimtab-probe", "namespace": namespace},
        }
        try:
            await self._client.create(probe, dry_run=True)
        except (GoingError, NotFoundError):
            return True
        except (RejectedError, AlreadyExistsError):
            # A quota or a policy said no, and not the namespace.
            return False
        return False

    async def refresh(self, owner: Stored) -> None:
        """Read the object again after a conflict, so that the next pass decides on what is there."""
        await self._applier.refresh(owner)

    def forget(self, uid: str) -> None:
        """An object is gone: so is what was remembered of it."""
        self._reports.forget(uid)
        self._servers.forget(uid)
        self._rejections.clear(uid)
        self._applier.forget(uid)
        self._reporter.forget(uid)
