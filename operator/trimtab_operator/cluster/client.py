"""The API server's verbs, as raw JSON. Raises nothing but errors.py."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

import aiohttp
import orjson

from trimtab_operator import metrics, names
from trimtab_operator.api import times
from trimtab_operator.api.v1alpha1 import Reason
from trimtab_operator.cluster.connection import Connection
from trimtab_operator.cluster.resources import Resource, resource_of
from trimtab_operator.errors import (
    AlreadyExistsError,
    ConflictError,
    GoingError,
    NotFoundError,
    OperatorError,
    RejectedError,
    RetryableError,
)
from trimtab_operator.state import Manifest, ObjectRef

_JSON = "application/json"
_JSON_PATCH = "application/json-patch+json"
_APPLY = "application/apply-patch+yaml"
_AS_IT_IS = {"fieldValidation": "Ignore"}
"""The server need not look for unknown fields: it would only warn of them, and nobody reads warnings to a program."""
_PAGE = 100
"""Objects in one page of a list: small enough not to hold up the event loop."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list. Every page of one list speaks of the same moment, `version`."""

    items: list[Manifest]
    version: int


class Client:
    """One connection pool to the API server; every call has a deadline."""

    def __init__(self, connection: Connection, *, deadline: timedelta = timedelta(seconds=10)) -> None:
        self._server = connection.server
        self._session = connection.session()
        self._timeout = aiohttp.ClientTimeout(total=deadline.total_seconds(), sock_connect=5)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def get(self, resource: Resource, namespace: str, name: str) -> Manifest:
        """Read one object from the quorum."""
        return await self._call("GET", resource.path(namespace, name), ("GET", resource.plural))

    async def serves(self, resource: Resource) -> bool:
        """Whether the cluster has this kind."""
        try:
            found = await self._call("GET", f"/apis/{resource.api_version}", ("DISCOVER", resource.plural))
        except NotFoundError:
            return False
        return any(each["name"] == resource.plural for each in found.get("resources") or ())

    async def pages(self, resource: Resource, namespace: str = "") -> AsyncIterator[Page]:
        """Read all objects, page by page. An expired continue token raises ConflictError: begin again."""
        query = {"limit": str(_PAGE)}
        if resource.selector:
            query["labelSelector"] = resource.selector
        while True:
            body = await self._call("GET", resource.path(namespace), ("LIST", resource.plural), query=query)
            items = body.get("items") or []
            for item in items:
                # Items of a list do not say what they are.
                item["apiVersion"], item["kind"] = resource.api_version, resource.kind
            yield Page(items, int(body["metadata"]["resourceVersion"]))
            if not body["metadata"].get("continue"):
                return
            query["continue"] = body["metadata"]["continue"]

    async def create(self, manifest: Manifest, *, dry_run: bool = False) -> Manifest:
        """Create an object; AlreadyExistsError where the name is taken."""
        resource = resource_of(manifest["kind"])
        path = resource.path(manifest["metadata"].get("namespace", ""))
        query = {"fieldManager": names.FIELD_MANAGER, **_AS_IT_IS} | ({"dryRun": "All"} if dry_run else {})
        return await self._call("POST", path, ("CREATE", resource.plural), body=manifest, query=query)

    async def apply(self, manifest: Manifest) -> Manifest:
        """Server-side apply as our field manager; our fields win."""
        resource = resource_of(manifest["kind"])
        path = resource.path(manifest["metadata"].get("namespace", ""), manifest["metadata"]["name"])
        query = {"fieldManager": names.FIELD_MANAGER, "force": "true"}
        return await self._call(
            "PATCH", path, ("APPLY", resource.plural), body=manifest, query=query, content_type=_APPLY
        )

    async def replace(self, manifest: Manifest) -> Manifest:
        """Replace an object if its resourceVersion is still the given one."""
        resource = resource_of(manifest["kind"])
        path = resource.path(manifest["metadata"].get("namespace", ""), manifest["metadata"]["name"])
        return await self._call("PUT", path, ("UPDATE", resource.plural), body=manifest)

    async def patch(self, ref: ObjectRef, operations: list[dict[str, Any]], *, subresource: str = "") -> Manifest:
        """JSON-patch an object; with a resourceVersion in `ref`, only if it is still at that version."""
        resource = resource_of(ref.kind)
        guard = (
            [{"op": "replace", "path": "/metadata/resourceVersion", "value": ref.resource_version}]
            if ref.resource_version
            else []
        )
        path = resource.path(ref.namespace, ref.name, subresource)
        return await self._call(
            "PATCH", path, ("PATCH", resource.plural), body=guard + operations, content_type=_JSON_PATCH
        )

    async def replace_status(self, ref: ObjectRef, status: Manifest) -> Manifest:
        """Write the whole status if the object is still the one of `ref`, at its version.

        That is all the body needs: whatever else it said, the API server keeps spec and metadata. A patch would cost it more.
        """
        resource = resource_of(ref.kind)
        metadata = {"name": ref.name, "uid": ref.uid, "resourceVersion": ref.resource_version}
        if ref.namespace:
            metadata["namespace"] = ref.namespace
        body = {"apiVersion": ref.api_version, "kind": ref.kind, "metadata": metadata, "status": status}
        path = resource.path(ref.namespace, ref.name, "status")
        return await self._call("PUT", path, ("UPDATE", resource.plural), body=body, query=_AS_IT_IS)

    async def delete(self, ref: ObjectRef, *, propagation: str = "Background") -> Manifest:
        """Delete exactly the object of `ref`: uid and resourceVersion are preconditions."""
        resource = resource_of(ref.kind)
        preconditions = {"uid": ref.uid, "resourceVersion": ref.resource_version}
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": propagation,
            "preconditions": {key: value for key, value in preconditions.items() if value},
        }
        return await self._call(
            "DELETE", resource.path(ref.namespace, ref.name), ("DELETE", resource.plural), body=body
        )

    async def _call(
        self,
        method: str,
        path: str,
        what: tuple[str, str],
        *,
        body: Any = None,
        query: dict[str, str] | None = None,
        content_type: str = _JSON,
    ) -> Manifest:
        started = time.perf_counter()
        code = "error"
        try:
            async with self._session.request(
                method,
                self._server + path,
                data=None if body is None else orjson.dumps(body),
                params=query,
                headers={"Content-Type": content_type},
                timeout=self._timeout,
            ) as response:
                data = await response.read()
                code = str(response.status)
                retry_after = response.headers.get("Retry-After", "")
        except (aiohttp.ClientError, TimeoutError, asyncio.IncompleteReadError, OSError) as error:
            raise RetryableError(f"API server did not answer {' '.join(what)}: {type(error).__name__}") from error
        finally:
            metrics.API_REQUESTS.labels(*what, code).inc()
            metrics.API_SECONDS.labels(what[0]).observe(time.perf_counter() - started)
        if code.startswith("2"):
            result: Manifest = orjson.loads(data)
            return result
        raise _error(int(code), data, " ".join(what), retry_after)


def _error(code: int, data: bytes, what: str, retry_after: str) -> OperatorError:
    """The error of errors.py that an answer stands for."""
    try:
        status = orjson.loads(data)
    except orjson.JSONDecodeError:
        status = {}
    message = str(status.get("message", ""))[:1000] if isinstance(status, dict) else ""
    reason = status.get("reason", "") if isinstance(status, dict) else ""
    text = f"{what}: {code} {message}".strip()
    match code:
        case 404:
            return NotFoundError(text)
        case 409 | 410:
            return AlreadyExistsError(text) if reason == "AlreadyExists" else ConflictError(text)
        case 403 if "being terminated" in message:
            return GoingError(text)
        case 400 | 403 | 405 | 413 | 415 | 422:
            quota = "exceeded quota" in message
            return RejectedError(Reason.QUOTA_EXCEEDED if quota else Reason.POD_REJECTED, message or text)
        case _:
            seconds = times.seconds(float(retry_after)) if retry_after.isdigit() else None
            return RetryableError(text, retry_after=seconds)
