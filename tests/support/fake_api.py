"""An API server in memory, with the client's verbs: resourceVersions, preconditions, uids, and faults where a test wants them."""

import copy
import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any

from trimtab_operator.api.v1alpha1 import Reason
from trimtab_operator.cluster.client import Page
from trimtab_operator.cluster.resources import Resource
from trimtab_operator.errors import AlreadyExistsError, ConflictError, NotFoundError, RejectedError
from trimtab_operator.state import Manifest, ObjectRef

_WRITES = {"create", "apply", "patch", "replace", "delete"}


class CrashError(Exception):
    """The operator dies here."""


def healthy(_verb: str, _kind: str, _name: str) -> None:
    """No fault."""


class FakeApi:
    """Objects by kind, namespace and name."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], Manifest] = {}
        self.requests: list[tuple[str, str, str]] = []
        """Verb, kind and name of everything that was asked."""
        self.before: Callable[[str, str, str], None] = healthy
        """May raise before a request does anything."""
        self.after: Callable[[str, str, str], None] = healthy
        """May raise after a request did its work: the reply is lost."""
        self._versions = itertools.count(100)
        self._uids = itertools.count(1)

    # ── what tests do ──

    def put(self, manifest: Manifest) -> Manifest:
        """Create or replace an object as somebody else would."""
        body = copy.deepcopy(manifest)
        metadata = body["metadata"]
        metadata.setdefault("namespace", "")
        key = (body["kind"], metadata["namespace"], metadata["name"])
        known = self.objects.get(key)
        metadata.setdefault("uid", known["metadata"]["uid"] if known else f"uid-{next(self._uids)}")
        changed = known is None or known.get("spec") != body.get("spec")
        metadata["generation"] = (known["metadata"].get("generation", 0) if known else 0) + (1 if changed else 0)
        metadata["resourceVersion"] = str(next(self._versions))
        self.objects[key] = body
        return copy.deepcopy(body)

    def find(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """An object, without a request."""
        return copy.deepcopy(self.objects.get((kind, namespace, name)))

    def writes(self) -> list[tuple[str, str, str]]:
        """The requests that write."""
        return [request for request in self.requests if request[0] in _WRITES]

    # ── the client's verbs ──

    async def get(self, resource: Resource, namespace: str, name: str) -> Manifest:
        self._ask("get", resource.kind, name)
        return copy.deepcopy(self._existing(resource.kind, namespace, name))

    async def pages(self, resource: Resource, namespace: str = "") -> AsyncIterator[Page]:
        self._ask("list", resource.kind, "")
        items = [
            copy.deepcopy(body)
            for (kind, where, _), body in self.objects.items()
            if kind == resource.kind and namespace in ("", where) and _selected(body, resource.selector)
        ]
        version = next(self._versions)
        for start in range(0, max(len(items), 1), 2):
            yield Page(items[start : start + 2], version)

    async def create(self, manifest: Manifest, *, dry_run: bool = False) -> Manifest:
        kind, metadata = manifest["kind"], manifest["metadata"]
        if dry_run:
            return copy.deepcopy(manifest)
        self._ask("create", kind, metadata["name"])
        if (kind, metadata.get("namespace", ""), metadata["name"]) in self.objects:
            raise AlreadyExistsError(f"{kind} {metadata['name']} exists")
        body = self.put(manifest)
        self.after("create", kind, metadata["name"])
        return body

    async def apply(self, manifest: Manifest) -> Manifest:
        kind, metadata = manifest["kind"], manifest["metadata"]
        self._ask("apply", kind, metadata["name"])
        known = self.find(kind, metadata["namespace"], metadata["name"]) or {"metadata": {}}
        body = self.put(_merged(known, manifest))
        self.after("apply", kind, metadata["name"])
        return body

    async def replace(self, manifest: Manifest) -> Manifest:
        kind, metadata = manifest["kind"], manifest["metadata"]
        self._ask("replace", kind, metadata["name"])
        known = self._existing(kind, metadata["namespace"], metadata["name"])
        _check(known, metadata.get("uid", ""), metadata.get("resourceVersion", ""))
        body = self.put(manifest)
        self.after("replace", kind, metadata["name"])
        return body

    async def patch(self, ref: ObjectRef, operations: list[dict[str, Any]], *, subresource: str = "") -> Manifest:  # noqa: ARG002 - the client's signature
        self._ask("patch", ref.kind, ref.name)
        body = copy.deepcopy(self._existing(ref.kind, ref.namespace, ref.name))
        _check(body, "", ref.resource_version)
        for operation in operations:
            *parents, last = operation["path"].strip("/").split("/")
            place = body
            for name in parents:
                place = place[name]
            place[last] = copy.deepcopy(operation["value"])
        body = self.put(body)
        self.after("patch", ref.kind, ref.name)
        return body

    async def replace_status(self, ref: ObjectRef, status: Manifest) -> Manifest:
        self._ask("replace", ref.kind, ref.name)
        body = copy.deepcopy(self._existing(ref.kind, ref.namespace, ref.name))
        _check(body, ref.uid, ref.resource_version)
        body = self.put({**body, "status": copy.deepcopy(status)})
        self.after("replace", ref.kind, ref.name)
        return body

    async def delete(self, ref: ObjectRef, *, propagation: str = "Background") -> Manifest:
        self._ask("delete", ref.kind, ref.name)
        body = self._existing(ref.kind, ref.namespace, ref.name)
        _check(body, ref.uid, ref.resource_version)
        del self.objects[ref.kind, ref.namespace, ref.name]
        self.after("delete", ref.kind, ref.name)
        return {"kind": "Status", "status": "Success", "details": {"propagation": propagation}}

    def _ask(self, verb: str, kind: str, name: str) -> None:
        self.requests.append((verb, kind, name))
        self.before(verb, kind, name)

    def _existing(self, kind: str, namespace: str, name: str) -> Manifest:
        try:
            return self.objects[kind, namespace, name]
        except KeyError:
            raise NotFoundError(f"{kind} {name} not found") from None


def refuse(verb: str, kind: str, reason: Reason = Reason.QUOTA_EXCEEDED) -> Callable[[str, str, str], None]:
    """A fault: the API server refuses such requests."""

    def fault(asked: str, of: str, name: str) -> None:
        if (asked, of) == (verb, kind):
            raise RejectedError(reason, f"{kind} {name} is refused")

    return fault


def _check(body: Manifest, uid: str, version: str) -> None:
    metadata = body["metadata"]
    if (uid and uid != metadata["uid"]) or (version and version != metadata["resourceVersion"]):
        raise ConflictError("precondition failed")


def _merged(known: Any, wanted: Any) -> Any:
    if isinstance(known, dict) and isinstance(wanted, dict):
        return {**known, **{key: _merged(known.get(key), value) for key, value in wanted.items()}}
    return wanted


def _selected(body: Manifest, selector: str) -> bool:
    labels = body["metadata"].get("labels") or {}
    return not selector or labels.get(selector.partition("=")[0]) == selector.partition("=")[2]
