"""Who must look again when an object changed. Labels only route; what an object means is decided by its owner's uid."""

from collections.abc import Iterable, Iterator
from typing import Any

from trimtab_operator.cluster import trim
from trimtab_operator.cluster.resources import OUR_KINDS
from trimtab_operator.cluster.store import Change, Store
from trimtab_operator.cluster.trim import Stored
from trimtab_operator.state import Key

_PROFILES = ("TrainingProfile", "StorageProfile")


def key_of(stored: Stored) -> Key:
    """The key of one of our objects."""
    return Key(stored.kind, stored.namespace, stored.name)


def affected(store: Store, change: Change) -> set[Key]:
    """The keys to look at after a change of the Store."""
    keys: set[Key] = set()
    for stored in change:
        if stored is not None:
            keys.update(_keys(store, stored))
            if stored.kind in _PROFILES and _edition(change.before) != _edition(change.after):
                keys.update(_readers(store))
    return keys


def _keys(store: Store, stored: Stored) -> Iterator[Key]:
    if stored.kind in OUR_KINDS:
        yield key_of(stored)
    match stored.kind:
        case "ModelVersion":
            model = _model(stored)
            yield from _all(store.having(trim.jobs_on_version(stored.namespace, stored.name)))
            yield from _all(store.having(trim.rollouts_of_model(stored.namespace, model)))
        case "ModelRollout":
            yield from _all(store.having(trim.versions_of_model(stored.namespace, _model(stored))))
        case "Job" | "Deployment" | "Service":
            yield from _owner(store, stored)
        case "Pod":
            yield from _pod(store, stored)


def _readers(store: Store) -> Iterator[Key]:
    """Whoever reads the spec of a profile, or waits for one. A probe of a store is written into a status, and tells them nothing."""
    yield from _all(store.having(trim.UNRESOLVED_JOBS))
    yield from _all(store.all("ModelVersion"))
    yield from _all(store.all("ModelRollout"))


def _edition(profile: Stored | None) -> object:
    """Tells one spec from another."""
    return None if profile is None else (profile.uid, profile.body()["metadata"].get("generation"))


def _pod(store: Store, pod: Stored) -> Iterator[Key]:
    job = store.by_uid(pod.owner) if pod.owner else None
    if job is not None and job.kind == "Job":
        yield from _owner(store, job)
    for term in pod.terms:
        namespace, rollout = term.split("|")[2:]
        found = store.get("ModelRollout", namespace, rollout)
        if found is not None:
            yield key_of(found)


def _owner(store: Store, dependent: Stored) -> Iterator[Key]:
    owner = store.by_uid(dependent.owner) if dependent.owner else None
    if owner is not None and owner.kind in OUR_KINDS:
        yield key_of(owner)


def _all(found: Iterable[Stored]) -> Iterator[Key]:
    return (key_of(stored) for stored in found)


def _model(stored: Stored) -> str:
    body: dict[str, Any] = stored.body()
    return str(body["spec"].get("modelName", ""))
