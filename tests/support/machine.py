"""The operator's machinery over an API server in memory: Store, queue, worker, all rooms; tests play trainer and kubelet."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from tests.support.builders import success
from tests.support.fake_api import FakeApi
from tests.support.manifests import smallest

from trimtab_operator.cluster.sweep import sweep
from trimtab_operator.reconcile.queue import Priority
from trimtab_operator.reconcile.worker import RECONCILERS, Reconciler, Worker
from trimtab_operator.runtime import Core
from trimtab_operator.settings import Settings
from trimtab_operator.state import Key, Manifest

SETTINGS = replace(Settings(), status_ca="-----BEGIN CERTIFICATE-----\n", progress_interval=timedelta(0))
_PATIENCE_SECONDS = 3.0
"""Backoffs and delays up to here pass at once."""
_MAX_STEPS = 300


class Machine:
    """One replica. `restart` makes a new one over the same API server."""

    def __init__(self, api: FakeApi | None = None, *, reconcilers: Mapping[str, Reconciler] = RECONCILERS) -> None:
        self.api = api or FakeApi()
        self._reconcilers = reconcilers
        self.now = 0.0
        self._boot()

    def _boot(self) -> None:
        self.core = Core(self.api, SETTINGS)  # type: ignore[arg-type]
        self.core.queue._clock = lambda: self.now
        self.worker = Worker(self.core.queue, self.core.cluster, SETTINGS, reconcilers=self._reconcilers)

    async def restart(self) -> "Machine":
        """The process died; the next one knows nothing."""
        self._boot()
        return await self.look()

    async def look(self) -> "Machine":
        """See everything there is, as after a full list."""
        for change in await sweep(self.api, self.core.store, namespaces=()):  # type: ignore[arg-type]
            self.core._changed(change, Priority.HIGH)
        self.core.enqueue_all()
        return self

    async def settle(self) -> "Machine":
        """Reconcile until nothing is left to do within a few seconds."""
        for _ in range(_MAX_STEPS):
            key = self.core.queue.take()
            if key is None:
                due = self.core.queue.next_due()
                if due is None or due > _PATIENCE_SECONDS:
                    return self
                self.now += due
                continue
            await self.work(key)
        raise AssertionError("the operator never comes to rest")

    async def work(self, key: Key) -> None:
        """One key, as a worker does it."""
        await self.worker._work(key, lambda: None)

    # ── what there is ──

    def job(self, name: str = "sample") -> Manifest:
        """A FineTuneJob."""
        found = self.api.find("FineTuneJob", "demo", name)
        assert found is not None
        return found

    def condition(self, kind: str, name: str = "sample") -> str:
        """`Status Reason` of a condition of a FineTuneJob."""
        conditions = self.job(name).get("status", {}).get("conditions", [])
        return next((f"{item['status']} {item['reason']}" for item in conditions if item["type"] == kind), "absent")

    # ── what others do ──

    def given(self, **spec: Any) -> "Machine":
        """Profiles and a job."""
        self.api.put(smallest("TrainingProfile") | {"spec": {"default": True}})
        storage = smallest("StorageProfile")
        storage["spec"]["default"] = True
        self.api.put(storage)
        job = smallest("FineTuneJob")
        job["spec"] |= spec
        self.api.put(job)
        return self

    async def attempt_runs(self, number: int, *, name: str = "sample") -> Manifest:
        """The Job controller makes the attempt's pod, the kubelet starts it."""
        job = self._attempt(number, name)
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"{job['metadata']['name']}-0",
                "namespace": "demo",
                "labels": job["spec"]["template"]["metadata"]["labels"],
                "creationTimestamp": "2026-11-21T12:00:00Z",
                "ownerReferences": [
                    {"kind": "Job", "name": job["metadata"]["name"], "uid": job["metadata"]["uid"], "controller": True}
                ],
            },
            "spec": {"nodeName": "node-1"},
            "status": {
                "phase": "Running",
                "containerStatuses": [_container({"running": {"startedAt": "2026-11-21T12:00:00Z"}})],
            },
        }
        self.api.put(pod)
        return await self._seen()

    async def attempt_ends(self, number: int, code: int = 0, *, name: str = "sample") -> Manifest:
        """Its container ends, and the Job with it."""
        job = self._attempt(number, name)
        pod = self.api.find("Pod", "demo", f"{job['metadata']['name']}-0")
        assert pod is not None
        words = success().model_dump_json(by_alias=True, exclude_none=True) if code == 0 else ""
        ended = {
            "exitCode": code,
            "reason": "Completed" if code == 0 else "Error",
            "message": words,
            "finishedAt": "2026-11-21T12:05:00Z",
        }
        pod["status"] = {
            "phase": "Failed" if code else "Succeeded",
            "containerStatuses": [_container({"terminated": ended})],
        }
        self.api.put(pod)
        condition = {
            "type": "Failed" if code else "Complete",
            "status": "True",
            "lastTransitionTime": "2026-11-21T12:05:00Z",
        }
        self.api.put({**job, "status": {"conditions": [condition]}})
        return await self._seen()

    async def _seen(self) -> Any:
        return await self.look()

    def _attempt(self, number: int, name: str) -> Manifest:
        job = self.api.find("Job", "demo", f"{name}-a{number}")
        assert job is not None, f"attempt {number} has no Job; there are {sorted(self.api.objects)}"
        return job


def _container(state: Manifest) -> Manifest:
    return {"name": "trainer", "state": state, "imageID": "registry@sha256:1"}
