"""From created to succeeded, with a stand-in for kubelets: every pod runs at once, and ends with the last words of a trainer that published."""

import asyncio
import time
from contextlib import suppress
from typing import Any

import aiohttp
import orjson
from contenders import fine_tune_job
from load import Manifest
from tests.support.builders import published, success

from trimtab_operator import names
from trimtab_operator.cluster.connection import Connection
from trimtab_operator.cluster.resources import resource_of
from trimtab_operator.plan.fine_tune_job.failure_policy import CONTAINER

_NOW = "2026-01-01T00:00:00Z"
_MERGE = {"Content-Type": "application/merge-patch+json"}


class Lifecycles:
    """Jobs of a namespace that go all the way."""

    def __init__(self, connection: Connection, session: aiohttp.ClientSession, namespace: str) -> None:
        self._server = connection.server
        self._session = session
        self._namespace = namespace
        self._complete: dict[str, float] = {}
        self._ended: set[str] = set()
        """Pods that were seen to their end."""
        self._wanted = 0
        self._all_complete = asyncio.Event()

    async def per_second(self, count: int, *, within: float = 120) -> float:
        """Create so many jobs at once; jobs a second from the first one sent to the last one Complete."""
        self._wanted = count
        seen_by = {"Pod": self._pod, "FineTuneJob": self._job}
        watches = [asyncio.create_task(self._watch(kind, seen)) for kind, seen in seen_by.items()]
        await asyncio.sleep(1)
        begin = time.monotonic()
        try:
            await asyncio.gather(*(self._create(f"whole-{number:05d}") for number in range(count)))
            async with asyncio.timeout(within):
                await self._all_complete.wait()
        finally:
            for watch in watches:
                watch.cancel()
        return count / (max(self._complete.values()) - begin)

    async def _create(self, name: str) -> None:
        body = fine_tune_job(self._namespace, name)
        del body["spec"]["runPolicy"]["queueName"]
        async with self._session.post(self._url("FineTuneJob"), json=body) as response:
            assert response.status == 201, await response.text()

    async def _watch(self, kind: str, seen: Any) -> None:
        """Again and again: the API server ends the watch of a reader that is slow, and the next one begins with what is there."""
        no_limit = aiohttp.ClientTimeout(total=None)
        tasks: set[asyncio.Task[None]] = set()
        while True:
            async with self._session.get(self._url(kind), params={"watch": "true"}, timeout=no_limit) as response:
                async for line in response.content:
                    task = asyncio.create_task(seen(orjson.loads(line)))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)

    async def _job(self, event: Manifest) -> None:
        conditions = event["object"].get("status", {}).get("conditions", [])
        if any(entry["type"] == "Complete" and entry["status"] == "True" for entry in conditions):
            self._complete.setdefault(event["object"]["metadata"]["name"], time.monotonic())
            if len(self._complete) == self._wanted:
                self._all_complete.set()

    async def _pod(self, event: Manifest) -> None:
        """What a kubelet says of a pod that runs and succeeds."""
        metadata = event["object"]["metadata"]
        job = metadata.get("labels", {}).get(names.JOB_LABEL, "")
        if event["type"] != "ADDED" or not job or metadata["name"] in self._ended:
            return
        self._ended.add(metadata["name"])
        words = success(published=published(name=job)).model_dump_json(by_alias=True, exclude_none=True)
        running = {"running": {"startedAt": _NOW}}
        ended = {"terminated": {"exitCode": 0, "startedAt": _NOW, "finishedAt": _NOW, "message": words}}
        for phase, state in (("Running", running), ("Succeeded", ended)):
            container = {"name": CONTAINER, "image": "a", "imageID": "", "restartCount": 0, "ready": phase == "Running"}
            ready = {"type": "Ready", "status": "True" if phase == "Running" else "False"}
            status = {"phase": phase, "startTime": _NOW, "conditions": [ready]}
            status["containerStatuses"] = [container | {"state": state}]
            url = f"{self._url('Pod')}/{metadata['name']}/status"
            with suppress(aiohttp.ClientConnectionError):
                async with self._session.patch(url, data=orjson.dumps({"status": status}), headers=_MERGE) as response:
                    assert response.status == 200, await response.text()

    def _url(self, kind: str) -> str:
        return self._server + resource_of(kind).path(self._namespace)
