"""Routes of the status endpoint.

POST {base}/status    KEP-2779, as transformers' KubeflowCallback sends it     -> the message as it was understood
POST {base}/report    TrainerReport                                            -> {}
POST {base}/version   VersionRequest                                           -> VersionReply
with base = /v1alpha1/namespaces/<namespace>/finetunejobs/<name>, and

POST /v1alpha1/namespaces/<namespace>/modelrollouts/<name>/server    ServerReport    -> ServerReply, as soon as there is news
"""

import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import orjson
from aiohttp import web
from pydantic import BaseModel, ValidationError

from trimtab_operator import metrics
from trimtab_operator.api.v1alpha1 import FineTuneJob
from trimtab_operator.cluster.reports import Reports
from trimtab_operator.cluster.routes import key_of
from trimtab_operator.cluster.servers import Servers
from trimtab_operator.endpoint.authentication import Authenticator, Speaker
from trimtab_operator.endpoint.forwarding import Forwarder
from trimtab_operator.endpoint.refusals import Refusal
from trimtab_operator.endpoint.versions import Versions
from trimtab_operator.errors import OperatorError
from trimtab_operator.state import Key, ServerNews
from trimtab_trainer.contract.messages import KubeflowStatusUpdate, TrainerReport, VersionRequest
from trimtab_trainer.contract.serving import MAX_WAIT_SECONDS, ServerReport

_LOG = logging.getLogger(__name__)
_BASE = "/v1alpha1/namespaces/{namespace}/finetunejobs/{name}"
_SERVER = "/v1alpha1/namespaces/{namespace}/modelrollouts/{name}/server"
MAX_BODY_BYTES = 256 * 1024
"""The largest reports have 128 data sets, and 20 checkpoints with their metrics."""
_Model = TypeVar("_Model", bound=BaseModel)
_Answer = Callable[[Speaker, Any], Awaitable[dict[str, Any]]]
_Authenticated = Callable[[web.Request, bytes], Awaitable[dict[str, Any]]]


class Endpoint:
    """Hears trainers and servers out, on the leader; other replicas pass the request on."""

    def __init__(
        self,
        authenticator: Authenticator,
        reports: Reports,
        servers: Servers,
        versions: Versions,
        *,
        wake: Callable[[Key], None],
        forwarder: Forwarder,
    ) -> None:
        self._authenticator = authenticator
        self._reports = reports
        self._servers = servers
        self._versions = versions
        self._wake = wake
        self._forwarder = forwarder

    def application(self) -> web.Application:
        """The aiohttp application."""
        application = web.Application(client_max_size=MAX_BODY_BYTES)
        application.on_cleanup.append(self._close)
        for route, answer in (("status", self._status), ("report", self._report), ("version", self._version)):
            application.router.add_post(f"{_BASE}/{route}", self._handler(route, self._of_trainer(answer)))
        application.router.add_post(_SERVER, self._handler("server", self._of_server))
        return application

    async def _close(self, _: web.Application) -> None:
        await self._forwarder.close()

    def _handler(self, route: str, answer: _Authenticated) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            try:
                response = await self._handle(request, answer)
            except Refusal as refusal:
                response = _refuse(refusal)
            except OperatorError as error:
                _LOG.warning("status_request_failed route=%s error=%r", route, str(error))
                response = _refuse(Refusal(503, "the API server is not available; try again", retry_after=2))
            metrics.REPORTS.labels(route, str(response.status)).inc()
            return response

        return handle

    async def _handle(self, request: web.Request, answer: _Authenticated) -> web.Response:
        data = await _read(request)
        if not self._forwarder.leading:
            return await self._forwarder.forward(request, data)
        return _json(200, await answer(request, data))

    def _of_trainer(self, answer: _Answer) -> _Authenticated:
        async def authenticated(request: web.Request, data: bytes) -> dict[str, Any]:
            return await answer(await self._authenticator.speaker(**_claim(request)), _parse_json(data))

        return authenticated

    async def _of_server(self, request: web.Request, data: bytes) -> dict[str, Any]:
        speaker = await self._authenticator.server(**_claim(request))
        report = _parse(ServerReport, _parse_json(data))
        uid = speaker.rollout.uid
        news = ServerNews(speaker.pod, speaker.pod_uid, datetime.now(UTC), report)
        if self._servers.take(uid, news):
            self._wake(key_of(speaker.rollout))
        wait = min(report.wait_seconds, MAX_WAIT_SECONDS)
        return (await self._servers.reply(uid, speaker.key, report.heard, wait_seconds=wait)).to_json()

    async def _status(self, speaker: Speaker, body: Any) -> dict[str, Any]:
        message = _parse(KubeflowStatusUpdate, body).trainer_status
        self._reports.take(speaker.job.uid, speaker.attempt, at=datetime.now(UTC), kubeflow=message)
        self._wake(key_of(speaker.job))
        return {"trainerStatus": message.to_json()}

    async def _report(self, speaker: Speaker, body: Any) -> dict[str, Any]:
        report = _parse(TrainerReport, body)
        _check_attempt(report.attempt, speaker)
        self._reports.take(speaker.job.uid, speaker.attempt, at=datetime.now(UTC), trainer=report)
        self._wake(key_of(speaker.job))
        if report.store_probe is not None:
            storage = FineTuneJob.parse(speaker.job.body()).status.resolved.storage_name
            self._reports.take_probe(storage, report)
            self._wake(Key("StorageProfile", "", storage))
        return {}

    async def _version(self, speaker: Speaker, body: Any) -> dict[str, Any]:
        request = _parse(VersionRequest, body)
        _check_attempt(request.attempt, speaker)
        reply = await self._versions.reserve(speaker.job, request)
        self._wake(key_of(speaker.job))
        return reply.to_json()


def _claim(request: web.Request) -> dict[str, str]:
    """What a request says about itself: a token, and the object that it speaks for."""
    return {
        "authorization": request.headers.get("Authorization", ""),
        "namespace": request.match_info["namespace"],
        "name": request.match_info["name"],
    }


async def _read(request: web.Request) -> bytes:
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise Refusal(413, f"the body must be at most {MAX_BODY_BYTES} bytes") from error


def _parse_json(data: bytes) -> Any:
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise Refusal(422, f"the body must be JSON: {error}") from error
    if not isinstance(body, dict):
        raise Refusal(422, "the body must be a JSON object")
    return body


def _parse(message: type[_Model], body: Any) -> _Model:
    """What a pod says. It may be of a later release, or not of ours at all: fields that are not known are ignored."""
    try:
        return message.model_validate(body, extra="ignore")
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors(include_url=False)[:5])
        raise Refusal(422, f"the message does not fit its schema: {'; '.join(problems)}") from error


def _check_attempt(attempt: int, speaker: Speaker) -> None:
    if attempt != speaker.attempt:
        raise Refusal(409, f"the message is of attempt {attempt}, the pod is of attempt {speaker.attempt}")


def _refuse(refusal: Refusal) -> web.Response:
    response = _json(refusal.code, {"message": str(refusal)})
    if refusal.retry_after is not None:
        response.headers["Retry-After"] = str(refusal.retry_after)
    return response


def _json(code: int, body: Any) -> web.Response:
    return web.Response(status=code, body=orjson.dumps(body), content_type="application/json")
