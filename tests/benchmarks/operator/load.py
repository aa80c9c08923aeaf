"""An open-loop generator: FineTuneJobs at given times, whatever becomes of them; and when their Jobs were seen."""

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson

from trimtab_operator.cluster.client import Client
from trimtab_operator.cluster.connection import Connection
from trimtab_operator.cluster.resources import resource_of
from trimtab_operator.errors import AlreadyExistsError

Manifest = dict[str, Any]


@dataclass(slots=True)
class Timeline:
    """When things happened, by name of the FineTuneJob; seconds of a monotonic clock."""

    sent: dict[str, float] = field(default_factory=dict)
    accepted: dict[str, float] = field(default_factory=dict)
    job_seen: dict[str, float] = field(default_factory=dict)

    def latencies(self, prefix: str) -> list[float]:
        """Accepted to Job seen, in milliseconds, sorted."""
        return sorted(
            1000 * max(0.0, self.job_seen[name] - accepted)
            for name, accepted in self.accepted.items()
            if name.startswith(prefix) and name in self.job_seen
        )

    def rate(self, prefix: str) -> float:
        """Jobs a second, from the first object sent to the last Job seen."""
        seen = [at for name, at in self.job_seen.items() if name.startswith(prefix)]
        first = min(at for name, at in self.sent.items() if name.startswith(prefix))
        return len(seen) / (max(seen) - first)


def fine_tune_job(namespace: str, name: str, profile: str) -> Manifest:
    """A job that waits in a queue that nobody serves: its Job is made and stays suspended."""
    return {
        "apiVersion": "trimtab.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "profile": profile,
            "storage": profile,
            "model": {"uri": "s3://models/smollm2-135m-instruct"},
            "task": {"causalLanguageModeling": {}},
            "method": {"lora": {"r": 16, "alpha": 32}},
            "data": {"train": [{"uri": "s3://data/train.jsonl", "format": "messages"}]},
            "training": {"epochs": 1, "globalBatchSize": 16},
            "output": {"modelName": name},
            "runPolicy": {"queueName": "nobody"},
        },
    }


async def prepare(client: Client, namespace: str, profile: str) -> None:
    """The namespace and the profiles of a run."""
    training = {"resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}}}
    storage = {"bucket": "models", "credentials": {"secretName": "store"}}
    api = {"apiVersion": "trimtab.dev/v1alpha1", "metadata": {"name": profile}}
    with contextlib.suppress(AlreadyExistsError):
        await client.create({**api, "kind": "TrainingProfile", "spec": training})
    with contextlib.suppress(AlreadyExistsError):
        await client.create({**api, "kind": "StorageProfile", "spec": storage})


async def namespace_of(session: aiohttp.ClientSession, server: str, name: str) -> None:
    """Make a namespace."""
    async with session.post(f"{server}/api/v1/namespaces", json={"metadata": {"name": name}}) as response:
        assert response.status in (201, 409), await response.text()


async def watch(connection: Connection, session: aiohttp.ClientSession, namespace: str, timeline: Timeline) -> None:
    """Note when each FineTuneJob's Job is first seen; for ever."""
    url = f"{connection.server}{resource_of('Job').path(namespace)}"
    async with session.get(url, params={"limit": "1"}) as response:
        version = (await response.json())["metadata"]["resourceVersion"]
    while True:
        params = {"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": version}
        async with session.get(url, params=params, timeout=aiohttp.ClientTimeout(total=None)) as response:
            async for line in response.content:
                now = time.monotonic()
                event = orjson.loads(line)
                metadata = event["object"]["metadata"]
                version = metadata["resourceVersion"]
                if event["type"] == "ADDED":
                    owner = next((owner["name"] for owner in metadata.get("ownerReferences") or ()), "")
                    timeline.job_seen.setdefault(owner, now)


async def create_at(client: Client, manifest: Manifest, at: float, timeline: Timeline) -> None:
    """Create one object at its time, however busy everything is."""
    await asyncio.sleep(max(0.0, at - time.monotonic()))
    name = manifest["metadata"]["name"]
    timeline.sent[name] = time.monotonic()
    await client.create(manifest)
    timeline.accepted[name] = time.monotonic()


async def until_seen(timeline: Timeline, names: list[str], *, within: float) -> None:
    """Wait until every one of these has its Job."""
    deadline = time.monotonic() + within
    while missing := [name for name in names if name not in timeline.job_seen]:
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"{len(missing)} of {len(names)} FineTuneJobs have no Job after {within:.0f} s, the first is {missing[0]}"
            )
        await asyncio.sleep(0.05)
