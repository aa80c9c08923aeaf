"""Who is speaking: the token must be for us, of a pod, and that pod must belong to the job's current attempt, or to the rollout's servers."""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from trimtab_operator import names
from trimtab_operator.api.v1alpha1 import FineTuneJob
from trimtab_operator.cluster.observe import is_server
from trimtab_operator.cluster.resources import Resource, resource_of
from trimtab_operator.cluster.store import Store
from trimtab_operator.cluster.trim import Stored, controller_uid
from trimtab_operator.endpoint.refusals import Refusal
from trimtab_operator.errors import NotFoundError, OperatorError
from trimtab_operator.state import Manifest
from trimtab_trainer.contract import mounts

_POD_NAME = "authentication.kubernetes.io/pod-name"
_POD_UID = "authentication.kubernetes.io/pod-uid"
_GOOD_SECONDS = 60.0
_BAD_SECONDS = 10.0
_REMEMBERED = 20_000
_REVIEWS_PER_SECOND = 50.0
_REQUESTS_PER_SECOND = 5.0
_BURST = 20.0


class Api(Protocol):
    """The part of the client that authentication needs."""

    async def create(self, manifest: Manifest) -> Manifest:
        """Create an object."""
        ...

    async def get(self, resource: Resource, namespace: str, name: str) -> Manifest:
        """Read an object."""
        ...


@dataclass(frozen=True, slots=True)
class Speaker:
    """A trainer pod that may speak for a job's current attempt."""

    job: Stored
    attempt: int


@dataclass(frozen=True, slots=True)
class ServerSpeaker:
    """A server pod that may speak for a rollout."""

    rollout: Stored
    pod: str
    pod_uid: str
    key: str
    """Names the configuration that the pod was made for."""


@dataclass(frozen=True, slots=True)
class _Bearer:
    """Whom a token was made for, as TokenReview says."""

    namespace: str
    pod_name: str
    pod_uid: str


class Bucket:
    """A token bucket: `rate` a second, `burst` at once."""

    def __init__(self, rate: float, burst: float, clock: Callable[[], float]) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._level, self._at = burst, clock()

    def take(self) -> bool:
        """Whether one more is allowed."""
        now = self._clock()
        self._level = min(self._burst, self._level + (now - self._at) * self._rate)
        self._at = now
        if self._level < 1:
            return False
        self._level -= 1
        return True


class Authenticator:
    """Checks tokens. Reviews are remembered for a short while, by the token's digest."""

    def __init__(self, api: Api, store: Store, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._store = store
        self._clock = clock
        self._reviews: OrderedDict[bytes, tuple[float, _Bearer | None, str]] = OrderedDict()
        self._limits: OrderedDict[bytes, Bucket] = OrderedDict()
        self._reviewing = Bucket(_REVIEWS_PER_SECOND, _REVIEWS_PER_SECOND, clock)

    async def speaker(self, authorization: str, *, namespace: str, name: str) -> Speaker:
        """The pod behind a request.

        Raises:
            Refusal: with the reason, for every other request.
        """
        bearer = await self._bearer(authorization)
        if bearer.namespace != namespace:
            raise Refusal(403, f"the token is of a pod in namespace '{bearer.namespace}', not '{namespace}'")
        stored = self._store.get("FineTuneJob", namespace, name)
        if stored is None:
            raise Refusal(404, f"FineTuneJob '{namespace}/{name}' does not exist")
        job = await self._job_of(bearer)
        if controller_uid(job["metadata"]) != stored.uid:
            raise Refusal(403, f"pod '{bearer.pod_name}' does not belong to FineTuneJob '{namespace}/{name}'")
        return Speaker(stored, _current_attempt(stored, job["metadata"]["name"]))

    async def server(self, authorization: str, *, namespace: str, name: str) -> ServerSpeaker:
        """The server behind a request: a pod of one of the rollout's own Deployments.

        Raises:
            Refusal: with the reason, for every other request.
        """
        bearer = await self._bearer(authorization)
        if bearer.namespace != namespace:
            raise Refusal(403, f"the token is of a pod in namespace '{bearer.namespace}', not '{namespace}'")
        stored = self._store.get("ModelRollout", namespace, name)
        if stored is None:
            raise Refusal(404, f"ModelRollout '{namespace}/{name}' does not exist")
        metadata = (await self._pod_of(bearer))["metadata"]
        deployments = [deployment.name for deployment in self._store.owned(stored.uid, "Deployment")]
        if not is_server({"metadata": metadata}, deployments):
            raise Refusal(403, f"pod '{bearer.pod_name}' is no server of ModelRollout '{namespace}/{name}'")
        key = (metadata.get("annotations") or {}).get(names.SERVER_CONFIG_ANNOTATION, "")
        return ServerSpeaker(stored, bearer.pod_name, bearer.pod_uid, key)

    async def _bearer(self, authorization: str) -> _Bearer:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Refusal(
                401, "the request needs an `Authorization: Bearer <token>` header with the pod's projected token"
            )
        digest = hashlib.sha256(token.strip().encode()).digest()
        limit = self._limits.setdefault(digest, Bucket(_REQUESTS_PER_SECOND, _BURST, self._clock))
        self._limits.move_to_end(digest)
        _trim(self._limits)
        if not limit.take():
            raise Refusal(429, f"too many requests: at most {_REQUESTS_PER_SECOND:.0f} a second", retry_after=1)
        known = self._reviews.get(digest)
        if known is None or known[0] <= self._clock():
            known = await self._review(digest, token.strip())
        if known[1] is None:
            raise Refusal(401, known[2])
        return known[1]

    async def _review(self, digest: bytes, token: str) -> tuple[float, _Bearer | None, str]:
        if not self._reviewing.take():
            raise Refusal(429, "too many unknown tokens at once; try again", retry_after=1)
        review = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "metadata": {},
            "spec": {"token": token, "audiences": [mounts.STATUS_TOKEN_AUDIENCE]},
        }
        try:
            status = (await self._api.create(review)).get("status") or {}
        except OperatorError as error:
            raise Refusal(503, "the API server cannot review the token now; try again", retry_after=2) from error
        bearer, problem = _read_review(status)
        known = (self._clock() + (_BAD_SECONDS if bearer is None else _GOOD_SECONDS), bearer, problem)
        self._reviews[digest] = known
        _trim(self._reviews)
        return known

    async def _job_of(self, bearer: _Bearer) -> Manifest:
        """The Job that controls the pod, read live where the watch is behind."""
        pod = await self._pod_of(bearer)
        owner = next((owner for owner in pod["metadata"].get("ownerReferences") or () if owner.get("controller")), None)
        if owner is None or owner["kind"] != "Job":
            raise Refusal(403, f"pod '{bearer.pod_name}' is not the pod of a Job")
        known = self._store.by_uid(owner["uid"])
        job = known.body() if known is not None else await self._live("Job", bearer.namespace, owner["name"])
        if job is None or job["metadata"]["uid"] != owner["uid"]:
            raise Refusal(403, f"the Job of pod '{bearer.pod_name}' no longer exists")
        return job

    async def _pod_of(self, bearer: _Bearer) -> Manifest:
        """The pod of a token, read live where the watch is behind."""
        stored = self._store.by_uid(bearer.pod_uid)
        pod = stored.body() if stored is not None else await self._live("Pod", bearer.namespace, bearer.pod_name)
        if pod is None or pod["metadata"]["uid"] != bearer.pod_uid:
            raise Refusal(403, f"pod '{bearer.pod_name}' of the token no longer exists")
        return pod

    async def _live(self, kind: str, namespace: str, name: str) -> Manifest | None:
        try:
            return await self._api.get(resource_of(kind), namespace, name)
        except NotFoundError:
            return None
        except OperatorError as error:
            raise Refusal(503, "the API server cannot say now whose pod this is; try again", retry_after=2) from error


def _read_review(status: dict[str, Any]) -> tuple[_Bearer | None, str]:
    if not status.get("authenticated") or mounts.STATUS_TOKEN_AUDIENCE not in (status.get("audiences") or ()):
        detail = status.get("error") or f"it must be a valid token with audience '{mounts.STATUS_TOKEN_AUDIENCE}'"
        return None, f"the token is not accepted: {detail}"
    user = status.get("user") or {}
    extra = user.get("extra") or {}
    parts = str(user.get("username", "")).split(":")
    pod_name, pod_uid = (str((extra.get(key) or [""])[0]) for key in (_POD_NAME, _POD_UID))
    if parts[:2] != ["system", "serviceaccount"] or len(parts) != 4 or not pod_uid:  # noqa: PLR2004 - system:serviceaccount:ns:name
        return None, "the token is not bound to a pod: mount it as a projected service-account token"
    return _Bearer(parts[2], pod_name, pod_uid), ""


def _current_attempt(stored: Stored, job_name: str) -> int:
    attempts = FineTuneJob.parse(stored.body()).status.attempts
    number = next((attempt.number for attempt in attempts if attempt.job_name == job_name), None)
    if number is None:
        raise Refusal(403, f"Job '{job_name}' is no attempt of this FineTuneJob")
    if number != attempts[-1].number:
        raise Refusal(
            409, f"attempt {number} is over: attempt {attempts[-1].number} has taken its place; stop this trainer"
        )
    return number


def _trim(remembered: "OrderedDict[bytes, Any]") -> None:
    while len(remembered) > _REMEMBERED:
        remembered.popitem(last=False)
