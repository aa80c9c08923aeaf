"""Makes the cluster look like the plan. Every step is safe to repeat, and nothing is destroyed without a live read."""

import hashlib
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

import orjson

from trimtab_operator import names
from trimtab_operator.api.v1alpha1 import Reason
from trimtab_operator.cluster.client import Client
from trimtab_operator.cluster.resources import OUR_KINDS, READ_EVERY_TIME, WATCHED_KINDS, resource_of
from trimtab_operator.cluster.store import Store
from trimtab_operator.cluster.trim import Stored, controller_uid
from trimtab_operator.errors import AlreadyExistsError, ConflictError, NotFoundError, OperatorError, RejectedError
from trimtab_operator.state import Manifest, ObjectRef, Plan

_LOG = logging.getLogger(__name__)
_TRUST_SECONDS = 300.0
"""How long an applied object that no watch shows is believed to be there: somebody may delete it by hand."""


class Applier:
    """Creates, applies and deletes what a plan says, and shows the replies to the Store."""

    def __init__(self, client: Client, store: Store, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._store = store
        self._clock = clock
        self._applied: dict[str, dict[tuple[str, str], str]] = {}
        """What the server accepted last: by owner uid, then by kind and name."""
        self._seen: dict[str, dict[tuple[str, str], float]] = {}
        """When such an object was applied or read."""

    async def apply(self, plan: Plan, owner: Stored) -> bool:
        """Carry out a plan for its owner. True: something was written.

        Raises:
            RejectedError: the API server refuses an object, or its name belongs to somebody else.
        """
        wrote = False
        for manifest in plan.apply:
            wrote |= await self._apply(_owned(manifest, owner), owner)
        for manifest in plan.merge:
            wrote |= await self._merge(manifest)
        for manifest in plan.create:
            wrote |= await self._create(_owned(manifest, owner), owner)
        for ref in plan.delete:
            wrote |= await self._delete(ref, owner)
        if plan.finalizer is not None:
            wrote |= await self._keep(owner, kept=plan.finalizer)
        if plan.delete_owner:
            await self._delete_owner(owner)
        return wrote or plan.delete_owner

    async def attempt(self, manifests: Iterable[Manifest], owner: Stored) -> bool:
        """Create ahead of the pass that needs it, which meets again whatever goes wrong here. True: all of it is there."""
        for manifest in manifests:
            try:
                await self._create(_owned(manifest, owner), owner)
            except OperatorError as error:
                _LOG.debug(
                    "not_yet_created kind=%s name=%s error=%r",
                    manifest["kind"],
                    manifest["metadata"]["name"],
                    str(error),
                )
                return False
        return True

    def forget(self, uid: str) -> None:
        """The owner is gone."""
        self._applied.pop(uid, None)
        self._seen.pop(uid, None)

    async def _create(self, manifest: Manifest, owner: Stored) -> bool:
        kind, metadata = manifest["kind"], manifest["metadata"]
        known = self._store.get(kind, metadata["namespace"], metadata["name"])
        if known is not None and _is_ours(known.body(), manifest):
            return False
        created = self._applied.setdefault(owner.uid, {})
        # What is watched is known by its name, and a reconcile is too short to digest a whole Job.
        key, digest = (kind, metadata["name"]), "" if kind in WATCHED_KINDS else _digest(manifest)
        if digest and created.get(key, "").startswith(digest):
            return False
        try:
            reply = await self._client.create(manifest)
        except AlreadyExistsError:
            reply = await self._adopt(manifest, owner)
        self._show(reply, owner)
        if digest:
            created[key] = _accepted(digest, reply)
        _LOG.info(
            "object_created kind=%s namespace=%s name=%s owner=%s",
            kind,
            metadata["namespace"],
            metadata["name"],
            owner.name,
        )
        return True

    async def _adopt(self, manifest: Manifest, owner: Stored) -> Manifest:
        """An object of that name exists: ours from an earlier try, or somebody else's."""
        live = await self._check_owner(manifest, owner)
        if manifest["kind"] in WATCHED_KINDS or _contains(live, manifest):
            return live
        # Configuration from a try that got no further; since then the spec or a profile has changed.
        return await self._client.apply(manifest)

    async def _check_owner(self, manifest: Manifest, owner: Stored) -> Manifest:
        metadata = manifest["metadata"]
        live = await self._client.get(resource_of(manifest["kind"]), metadata["namespace"], metadata["name"])
        self._show(live, owner)
        if not _is_ours(live, manifest):
            raise RejectedError(
                Reason.NAME_CONFLICT,
                f"{manifest['kind']} '{metadata['name']}' exists and belongs to somebody else: delete it or choose another name.",
            )
        return live

    async def _apply(self, manifest: Manifest, owner: Stored) -> bool:
        kind, metadata = manifest["kind"], manifest["metadata"]
        accepted = self._applied.setdefault(owner.uid, {})
        key = (kind, metadata["name"])
        digest = _digest(manifest)
        if kind in WATCHED_KINDS:
            known = self._store.get(kind, metadata["namespace"], metadata["name"])
            live = known.body() if known is not None else None
        else:
            seen, now = self._seen.setdefault(owner.uid, {}), self._clock()
            trusted = kind not in READ_EVERY_TIME
            if trusted and accepted.get(key, "").startswith(digest) and now - seen.get(key, now) < _TRUST_SECONDS:
                return False
            live, seen[key] = await self._read(manifest), now
        if live is not None:
            if not _is_ours(live, manifest):
                await self._check_owner(manifest, owner)
            # The server spells some values in its own way ("0.5" becomes "500m"): what it accepted is known by generation.
            if _contains(live, manifest) or accepted.get(key) == _accepted(digest, live):
                accepted[key] = _accepted(digest, live)
                return False
        reply = await self._client.apply(manifest)
        self._show(reply, owner)
        accepted[key] = _accepted(digest, reply)
        _LOG.info(
            "object_applied kind=%s namespace=%s name=%s owner=%s",
            kind,
            metadata["namespace"],
            metadata["name"],
            owner.name,
        )
        return True

    async def _merge(self, manifest: Manifest) -> bool:
        """Our fields of somebody else's object. Its uid is in the manifest: server-side apply refuses to make what has gone meanwhile."""
        metadata = manifest["metadata"]
        live = await self._read(manifest)
        if live is None:
            raise ConflictError(f"{manifest['kind']} {metadata['name']} is gone")
        if _contains(live, manifest):
            return False
        await self._client.apply(manifest)
        _LOG.info(
            "fields_applied kind=%s namespace=%s name=%s", manifest["kind"], metadata["namespace"], metadata["name"]
        )
        return True

    async def _read(self, manifest: Manifest) -> Manifest | None:
        metadata = manifest["metadata"]
        try:
            return await self._client.get(resource_of(manifest["kind"]), metadata["namespace"], metadata["name"])
        except NotFoundError:
            return None

    async def _delete(self, ref: ObjectRef, owner: Stored) -> bool:
        await self.refresh(owner)
        try:
            live = await self._client.get(resource_of(ref.kind), ref.namespace, ref.name)
        except NotFoundError:
            self._gone(ref, owner)
            return False
        metadata = live["metadata"]
        if metadata["uid"] != ref.uid or controller_uid(metadata) != owner.uid:
            self._gone(ref, owner)
            return False
        self._show(live, owner)
        if metadata.get("deletionTimestamp"):
            return False
        if ref.resource_version and metadata["resourceVersion"] != ref.resource_version:
            raise ConflictError(f"{ref.kind} {ref.name} changed since the plan was made")
        # A Job that stays until its pods are gone shows how they end, and is the sign that a next attempt may begin.
        propagation = "Foreground" if ref.kind == "Job" else "Background"
        reply = await self._client.delete(
            ref._replace(resource_version=metadata["resourceVersion"]), propagation=propagation
        )
        if reply.get("kind") == ref.kind:
            self._show(reply, owner)
        else:
            self._gone(ref, owner)
        _LOG.info("object_deleted kind=%s namespace=%s name=%s owner=%s", ref.kind, ref.namespace, ref.name, owner.name)
        return True

    async def _keep(self, owner: Stored, *, kept: bool) -> bool:
        """Put our finalizer on the owner, or take it off, if it is still as it was observed."""
        finalizers: list[str] = owner.body()["metadata"].get("finalizers") or []
        if kept == (names.RECLAIM_FINALIZER in finalizers):
            return False
        others = [name for name in finalizers if name != names.RECLAIM_FINALIZER]
        wanted = [*others, names.RECLAIM_FINALIZER] if kept else others
        ref = ObjectRef(names.API_VERSION, owner.kind, owner.namespace, owner.name, owner.uid, str(owner.version))
        reply = await self._client.patch(ref, [{"op": "add", "path": "/metadata/finalizers", "value": wanted}])
        self._show(reply, owner)
        _LOG.info(
            "finalizer_%s kind=%s namespace=%s name=%s",
            "added" if kept else "removed",
            owner.kind,
            owner.namespace,
            owner.name,
        )
        return True

    async def _delete_owner(self, owner: Stored) -> None:
        ref = ObjectRef(names.API_VERSION, owner.kind, owner.namespace, owner.name, owner.uid, str(owner.version))
        await self._client.delete(ref)
        _LOG.info(
            "object_deleted kind=%s namespace=%s name=%s reason=TimeToLive", owner.kind, owner.namespace, owner.name
        )

    async def refresh(self, owner: Stored) -> None:
        """Make sure that a decision was made on what is there now.

        Raises:
            ConflictError: the owner changed or is gone; decide anew.
        """
        try:
            live = Stored.of(await self._client.get(resource_of(owner.kind), owner.namespace, owner.name))
        except NotFoundError:
            self._store.missed(owner, by=owner)
            raise ConflictError(f"{owner.kind} {owner.name} is gone") from None
        self._store.wrote(live, by=owner)
        if live.uid != owner.uid or live.version != owner.version:
            raise ConflictError(f"{owner.kind} {owner.name} changed since it was observed")

    def _show(self, reply: Manifest, owner: Stored) -> None:
        """Read your own writes: the watch will bring the same version and be ignored, so whoever waits is told here."""
        if reply["kind"] in WATCHED_KINDS:
            self._store.wrote(Stored.of(reply), by=owner)

    def _gone(self, ref: ObjectRef, owner: Stored) -> None:
        known = self._store.by_uid(ref.uid)
        if known is not None:
            self._store.missed(known, by=owner)


def _owned(manifest: Manifest, owner: Stored) -> Manifest:
    """The manifest with us as its controller. Our own kinds outlive each other: a ModelVersion stays when its job goes."""
    metadata = {**manifest["metadata"]}
    metadata.setdefault("namespace", owner.namespace)
    if manifest["kind"] not in OUR_KINDS:
        metadata["ownerReferences"] = [
            {
                "apiVersion": names.API_VERSION,
                "kind": owner.kind,
                "name": owner.name,
                "uid": owner.uid,
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ]
    return {**manifest, "metadata": metadata}


def _digest(manifest: Manifest) -> str:
    return hashlib.sha256(orjson.dumps(manifest, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _accepted(digest: str, live: Manifest) -> str:
    """What was asked for, and the state of the object that answered it. Status changes do not move a generation."""
    metadata = live["metadata"]
    return f"{digest}@{metadata.get('generation') or metadata['resourceVersion']}"


def _is_ours(live: Manifest, manifest: Manifest) -> bool:
    """Whether an existing object is the one that we would have made."""
    if manifest["kind"] in OUR_KINDS:
        source, wanted = (item["spec"].get("source") or {} for item in (live, manifest))
        return bool(source.get("uid")) and source.get("uid") == wanted.get("uid")
    return bool(controller_uid(live["metadata"]) == controller_uid(manifest["metadata"]))


def _contains(live: Any, wanted: Any) -> bool:
    """Whether everything that is wanted is so already; what the server added does not count."""
    if isinstance(wanted, dict):
        return isinstance(live, dict) and all(
            key in live and _contains(live[key], value) for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return isinstance(live, list) and len(live) == len(wanted) and all(map(_contains, live, wanted))
    return bool(live == wanted)
