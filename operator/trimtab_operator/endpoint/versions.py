"""Reserves the number of the model version that a job will publish."""

import asyncio
import contextlib
from weakref import WeakValueDictionary

from trimtab_operator import names
from trimtab_operator.api.v1alpha1 import FineTuneJob, ModelVersion
from trimtab_operator.cluster import trim
from trimtab_operator.cluster.client import Client
from trimtab_operator.cluster.resources import resource_of
from trimtab_operator.cluster.store import Store
from trimtab_operator.cluster.trim import Stored
from trimtab_operator.endpoint.refusals import Refusal
from trimtab_operator.errors import ConflictError, NotFoundError
from trimtab_operator.plan.fine_tune_job.version import next_version, reserved_version
from trimtab_operator.state import ObjectRef
from trimtab_trainer.contract.messages import VersionReply, VersionRequest

_TRIES = 5


class Versions:
    """One reservation at a time for each model name of a namespace."""

    def __init__(self, client: Client, store: Store) -> None:
        self._client = client
        self._store = store
        # Gone with the last request that holds one: models come and go.
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def reserve(self, stored: Stored, request: VersionRequest) -> VersionReply:
        """The job's version. Asking again gives the same one, unless its place in the store is taken."""
        job = FineTuneJob.parse(stored.body())
        model = job.spec.output.model_name
        lock = self._locks.setdefault((stored.namespace, model), asyncio.Lock())
        async with lock:
            for _ in range(_TRIES):
                held = reserved_version(job)
                if held is not None and held not in request.taken:
                    return VersionReply(name=names.model_version(model, held), version=held)
                number = self._next(stored.namespace, model, request.taken)
                with contextlib.suppress(ConflictError):
                    await self._write(stored, names.model_version(model, number))
                stored = await self._read(stored)
                job = FineTuneJob.parse(stored.body())
        raise Refusal(503, "the job's status changes too fast to reserve a version; try again", retry_after=1)

    def _next(self, namespace: str, model: str, taken: list[int]) -> int:
        versions = [
            ModelVersion.parse(found.body()) for found in self._store.having(trim.versions_of_model(namespace, model))
        ]
        jobs = [FineTuneJob.parse(found.body()) for found in self._store.having(trim.jobs_of_model(namespace, model))]
        return next_version(model, versions, jobs, taken)

    async def _write(self, stored: Stored, name: str) -> None:
        ref = ObjectRef(names.API_VERSION, stored.kind, stored.namespace, stored.name, stored.uid, str(stored.version))
        change = [{"op": "add", "path": "/status/modelVersion", "value": name}]
        self._store.wrote(Stored.of(await self._client.patch(ref, change, subresource="status")), by=stored)

    async def _read(self, stored: Stored) -> Stored:
        known = self._store.by_uid(stored.uid)
        if known is not None and known.version > stored.version:
            return known
        try:
            live = Stored.of(await self._client.get(resource_of(stored.kind), stored.namespace, stored.name))
        except NotFoundError as error:
            raise Refusal(404, f"FineTuneJob '{stored.namespace}/{stored.name}' does not exist") from error
        self._store.wrote(live, by=stored)
        return live
