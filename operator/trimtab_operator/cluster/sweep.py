"""A full LIST of every kind: what the watches lost is found, what is gone is removed."""

import logging

from trimtab_operator import metrics
from trimtab_operator.cluster.client import Client
from trimtab_operator.cluster.resources import WATCHED, Resource
from trimtab_operator.cluster.store import Change, Store
from trimtab_operator.cluster.trim import Stored

_LOG = logging.getLogger(__name__)


async def sweep(client: Client, store: Store, *, namespaces: tuple[str, ...]) -> list[Change]:
    """Mark what is there, sweep what is not. Returns what changed in the Store."""
    changes: list[Change] = []
    for resource in WATCHED:
        scopes = namespaces if namespaces and resource.namespaced else ("",)
        for namespace in scopes:
            found = await _sweep_kind(client, store, resource, namespace)
            if found:
                metrics.SWEEP_REPAIRS.labels(resource.kind).inc(len(found))
            changes += found
    return changes


async def _sweep_kind(client: Client, store: Store, resource: Resource, namespace: str) -> list[Change]:
    seen: set[str] = set()
    version = 0
    changes: list[Change] = []
    async for page in client.pages(resource, namespace):
        version = page.version
        for item in page.items:
            seen.add(item["metadata"]["uid"])
            change = store.put(Stored.of(item))
            if change is not None:
                changes.append(change)
    return changes + store.sweep(resource.kind, namespace, seen=seen, version=version)
