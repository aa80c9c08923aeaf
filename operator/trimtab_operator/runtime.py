"""Puts the parts together: watches fill the Store, the leader's workers empty the queue, the endpoint listens."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
from collections.abc import Collection, Coroutine
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web

from trimtab_operator import metrics
from trimtab_operator.cluster.client import Client
from trimtab_operator.cluster.connection import Connection
from trimtab_operator.cluster.events import EventWriter
from trimtab_operator.cluster.facade import Cluster
from trimtab_operator.cluster.reports import Reports
from trimtab_operator.cluster.resources import OUR_KINDS, OURS
from trimtab_operator.cluster.routes import affected, key_of
from trimtab_operator.cluster.servers import Servers
from trimtab_operator.cluster.store import Change, Store
from trimtab_operator.cluster.sweep import sweep
from trimtab_operator.cluster.trim import Stored
from trimtab_operator.endpoint.authentication import Authenticator
from trimtab_operator.endpoint.certificates import Certificate, make_self_signed
from trimtab_operator.endpoint.forwarding import Forwarder
from trimtab_operator.endpoint.server import Endpoint
from trimtab_operator.endpoint.versions import Versions
from trimtab_operator.errors import OperatorError
from trimtab_operator.intake import Change as Watched
from trimtab_operator.intake import Intake
from trimtab_operator.leader import ApiLeases, Elector
from trimtab_operator.probes import Probes, Vitals
from trimtab_operator.reconcile.queue import Priority, Queue
from trimtab_operator.reconcile.worker import Worker
from trimtab_operator.settings import Settings
from trimtab_operator.state import Key
from trimtab_operator.watches import Watches

_LOG = logging.getLogger(__name__)
_RELIST_SECONDS = 2.0
"""Quiet time after a re-list of Kopf until the sweep that finds what was deleted meanwhile."""
_STUCK_SECONDS = 330.0
"""A watcher asks for more at least every 240 s."""
_COLLECT = (20_000, 20, 50)
"""Thresholds of the garbage collector: a tenth less processor time in a burst, for 3 MiB."""
_SWITCH_SECONDS = 0.0005
"""How long Kopf's thread may keep the interpreter from the one that decides: the echo of a write is less urgent than its answer."""
_LOST = 1


class Core:
    """Store and queue: what every replica keeps warm."""

    def __init__(self, client: Client, settings: Settings) -> None:
        self.store = Store()
        self.queue = Queue()
        self.reports = Reports()
        self.servers = Servers()
        self.events = EventWriter(client, instance=settings.identity)
        self.cluster = Cluster(client, self.store, self.reports, self.servers, self.events)
        self.store.on_own_write = self._wrote
        # The pass that noted an Event is mostly about to create a Job.
        self.events.busy = lambda: self.queue.active > 0 or len(self.queue) > 0
        self.synced = asyncio.Event()
        self._client = client
        self._settings = settings
        self._sweep_soon = asyncio.Event()

    def watched(self, change: Watched, stored: Stored) -> None:
        """One event of a watch."""
        known = self.store.by_uid(stored.uid)
        if change == "listed" and known is not None:
            # Kopf listed again: whatever was deleted in between is not in its list, and nobody will say so.
            self._sweep_soon.set()
        done = self.store.remove(stored.uid, stored.version) if change == "deleted" else self.store.put(stored)
        if done is None:
            metrics.EVENTS_STALE.labels(stored.kind).inc()
            return
        self._changed(done, Priority.LOW if change == "listed" else Priority.HIGH)

    def enqueue_all(self) -> None:
        """Look at everything: this replica has just begun to lead."""
        self.servers.listening_since = datetime.now(UTC)
        for resource in OURS:
            for stored in self.store.all(resource.kind):
                self.queue.add(key_of(stored), Priority.LOW)

    async def sync(self) -> None:
        """Fill the Store by a full list, however long the API server lets us wait."""
        pause = 0.2
        while not self.synced.is_set():
            try:
                for change in await sweep(self._client, self.store, namespaces=self._settings.watch_namespaces):
                    self._changed(change, Priority.LOW)
            except OperatorError as error:
                _LOG.warning("sync_failed retry_seconds=%.1f error=%r", pause, str(error))
                await asyncio.sleep(pause)
                pause = min(pause * 2, 10)
            else:
                self.synced.set()
        _LOG.info("synced jobs=%d", self.store.count("FineTuneJob"))

    async def sweep_now_and_then(self) -> None:
        """Sweep every few minutes, and soon after Kopf had to list again."""
        while True:
            soon = False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.sweep_interval.total_seconds()):
                    soon = await self._sweep_soon.wait()
            if soon:
                await asyncio.sleep(_RELIST_SECONDS)
            self._sweep_soon.clear()
            try:
                changes = await sweep(self._client, self.store, namespaces=self._settings.watch_namespaces)
            except OperatorError as error:
                _LOG.warning("sweep_failed error=%r", str(error))
                self._sweep_soon.set()
                continue
            for change in changes:
                self._changed(change, Priority.LOW)
            if changes:
                _LOG.info("sweep_found changes=%d", len(changes))

    def _wrote(self, change: Change, by: Stored) -> None:
        """Wake who waits for what a reconcile has written; the one that wrote looks again anyway."""
        self._changed(change, Priority.HIGH, but={key_of(by)})

    def _changed(self, change: Change, priority: Priority, *, but: Collection[Key] = ()) -> None:
        for key in affected(self.store, change).difference(but):
            self.queue.add(key, priority)
        gone = change.before
        if gone is not None and gone.kind in OUR_KINDS and (change.after is None or change.after.uid != gone.uid):
            self.cluster.forget(gone.uid)


class Operator:
    """One replica."""

    def __init__(self, connection: Connection, settings: Settings) -> None:
        self._connection = connection
        self._settings = settings
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._runners: list[web.AppRunner] = []

    async def run(self) -> int:
        """Run until a signal (0) or until the Lease is lost (1)."""
        # What the imports made stays for ever: the collector need not walk it again, nor run every 700 objects.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_COLLECT)
        sys.setswitchinterval(_SWITCH_SECONDS)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        certificate = await self._certificate()
        deadline = timedelta(seconds=10)
        async with Client(self._connection, deadline=deadline) as client:
            core = Core(client, self._settings)
            elector = Elector(
                ApiLeases(client, namespace=self._settings.namespace, name=self._settings.lease_name),
                self._settings.identity,
            )
            watches = Watches(self._connection, self._settings, Intake(core.store, core.watched, loop))
            await self._serve(core, client, elector, watches, certificate)
            self._spawn(core.events.run())
            self._spawn(certificate.watch())
            self._spawn(_revive(watches))
            try:
                return await self._lead(core, elector, watches)
            finally:
                await self._shut_down(core, elector, watches)

    async def _lead(self, core: Core, elector: Elector, watches: Watches) -> int:
        """Sync, watch, wait for the Lease, work."""
        if not await self._unless_stopped(core.sync()):
            return 0
        watches.start()
        self._spawn(core.sweep_now_and_then())
        if self._settings.leader_election:
            if not await self._unless_stopped(elector.acquire()):
                return 0
        else:
            metrics.LEADER.set(1)
        core.enqueue_all()
        self._spawn(Worker(core.queue, core.cluster, self._settings).run())
        if not self._settings.leader_election:
            await self._stopping.wait()
            return 0
        if await self._unless_stopped(elector.hold()):
            # Somebody else may lead already: not one more write, no tidying up.
            os._exit(_LOST)
        return 0

    async def _unless_stopped(self, work: Coroutine[Any, Any, None]) -> bool:
        """Whether the work came to its end before the process was told to stop."""
        task, stop = asyncio.create_task(work), asyncio.create_task(self._stopping.wait())
        await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
        finished = task.done()
        for pending in (task, stop):
            pending.cancel()
        await asyncio.wait({task, stop})
        if finished:
            task.result()
        return finished

    async def _shut_down(self, core: Core, elector: Elector, watches: Watches) -> None:
        """Stop taking work in, finish what is in hand, give the Lease back."""
        _LOG.info("stopping")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await elector.release()
        for runner in self._runners:
            await runner.cleanup()
        await asyncio.to_thread(watches.stop) if watches.alive else None
        _LOG.info("stopped queue=%d", len(core.queue))

    async def _certificate(self) -> Certificate:
        directory = self._settings.tls_directory
        if not (directory / "tls.crt").is_file():
            if self._settings.leader_election:
                raise OperatorError(f"{directory} has no tls.crt: the chart makes one, see docs/operations.md")
            await make_self_signed(directory, self._settings.status_url)
        certificate = Certificate(directory)
        if not self._settings.status_ca:
            self._settings = replace(self._settings, status_ca=certificate.authority)
        return certificate

    async def _serve(
        self, core: Core, client: Client, elector: Elector, watches: Watches, certificate: Certificate
    ) -> None:
        def leading() -> bool:
            return elector.leading or not self._settings.leader_election

        forwarder = Forwarder(
            is_leading=leading,
            leader=lambda: elector.holder,
            url=self._settings.status_url,
            port=self._settings.status_port,
        )
        forwarder.trust(certificate.authority)
        endpoint = Endpoint(
            Authenticator(client, core.store),
            core.reports,
            core.servers,
            Versions(client, core.store),
            wake=core.queue.add,
            forwarder=forwarder,
        )
        probes = Probes(
            Vitals(
                watch_ages=watches.activity.ages,
                watching=lambda: watches.alive or not core.synced.is_set(),
                synced=core.synced.is_set,
                leading=leading,
                lease_age=elector.lease_age,
                queue=core.queue,
                store=core.store,
            )
        )
        await self._listen(endpoint.application(), self._settings.status_port, certificate)
        await self._listen(probes.probes(), self._settings.probe_port)
        await self._listen(self._metrics(probes, core), self._settings.metrics_port)
        self._spawn(probes.tick())

    def _metrics(self, probes: Probes, core: Core) -> web.Application:
        """Metrics for programs, and pages for people where they are wanted."""
        application = probes.metrics()
        if self._settings.console:
            # jinja2 costs megabytes: only who wants the pages pays for them.
            from trimtab_operator.console.server import Console  # noqa: PLC0415

            console = Console(core.store)
            console.add_to(application)
            self._spawn(console.watch())
        return application

    async def _listen(self, application: web.Application, port: int, certificate: Certificate | None = None) -> None:
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=2)
        await runner.setup()
        tls = certificate.context if certificate else None
        await web.TCPSite(runner, self._settings.bind_address, port, ssl_context=tls).start()
        self._runners.append(runner)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """A task that runs as long as the process; when it fails, so does the process."""
        task = asyncio.create_task(work)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            _LOG.critical("task_failed error=%r", task.exception(), exc_info=task.exception())
            os._exit(_LOST)


async def _revive(watches: Watches) -> None:
    """Start Kopf anew when one of its watchers is stuck, before the liveness probe ends the whole process for it."""
    while True:
        await asyncio.sleep(_STUCK_SECONDS / 10)
        silent = {kind: age for kind, age in watches.activity.ages().items() if age > _STUCK_SECONDS}
        if silent:
            _LOG.warning("watches_stuck kinds=%s", ",".join(sorted(silent)))
            watches.restart()
