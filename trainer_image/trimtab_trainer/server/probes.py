"""Probes, metrics and the list of models: what kubelet, Prometheus and clients ask about a server itself."""

import time
from typing import Any, Protocol

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from trimtab_trainer.server.front import Front
from trimtab_trainer.server.metrics import Metrics
from trimtab_trainer.server.openai_api import ApiError
from trimtab_trainer.server.versions import Versions


class Machine(Protocol):
    """What computes the answers."""

    @property
    def alive(self) -> bool:
        """Without it only a restart of the container helps."""

    @property
    def ready(self) -> bool:
        """It can answer now."""

    @property
    def running(self) -> int:
        """Requests that it works on."""

    @property
    def waiting(self) -> int:
        """Requests that wait for it."""


def application(probes: "Probes", endpoints: list[Route]) -> Starlette:
    """A server with these endpoints; errors have OpenAI's form everywhere."""
    handlers = {HTTPException: _http_error, ApiError: _api_error}
    return Starlette(routes=[*probes.routes(), *endpoints], exception_handlers=handlers)


class Probes:
    """What kubelet, Prometheus and clients ask about the server itself."""

    def __init__(self, machine: Machine, versions: Versions[Any], metrics: Metrics, front: Front) -> None:
        self._machine, self._versions, self._metrics, self._front = machine, versions, metrics, front
        self._created = int(time.time())

    def routes(self) -> list[Route]:
        """What every server answers beside its models."""
        return [
            Route("/healthz", self.healthz),
            Route("/readyz", self.readyz),
            Route("/metrics", self.metrics),
            Route("/v1/models", self.models),
            Route("/v1/models/{model:path}", self.model),
        ]

    async def healthz(self, _request: Request) -> Response:
        """200 while the engine's thread lives; else only a restart helps."""
        alive = self._machine.alive
        return PlainTextResponse(
            "ok" if alive else "what computes the answers has ended", status_code=200 if alive else 500
        )

    async def readyz(self, _request: Request) -> Response:
        """200 when requests for the model are answered; the body says how far each version is, and why."""
        versions = self._versions
        ready = versions.ready and self._machine.ready and not self._front.draining
        body = {
            "ready": ready,
            "draining": self._front.draining,
            "configProblem": versions.config_problem,
            "versions": [
                {
                    "name": version.served.name,
                    "state": version.state,
                    "weight": version.served.weight,
                    "reason": version.error.reason if version.error else "",
                    "message": str(version.error or ""),
                    "openRequests": version.in_flight,
                }
                for version in versions.report()
            ],
        }
        return JSONResponse(body, status_code=200 if ready else 503)

    async def metrics(self, _request: Request) -> Response:
        """Prometheus text format."""
        self._metrics.running.set(self._machine.running)
        self._metrics.waiting.set(self._machine.waiting)
        return Response(generate_latest(self._metrics.registry), media_type=CONTENT_TYPE_LATEST)

    async def models(self, _request: Request) -> Response:
        """Every name that a request may give as `model`."""
        return JSONResponse({"object": "list", "data": [self._described(name) for name in self._versions.names()]})

    async def model(self, request: Request) -> Response:
        """One of them."""
        name = request.path_params["model"]
        if name not in self._versions.names():
            raise ApiError(404, f"The model '{name}' does not exist here.", param="model", code="model_not_found")
        return JSONResponse(self._described(name))

    def _described(self, name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": self._created, "owned_by": "trimtab"}


async def _http_error(_request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    detail = error.detail if isinstance(error, HTTPException) else ""
    return JSONResponse(ApiError(status, f"{detail}.").body(), status_code=status)


async def _api_error(_request: Request, error: Exception) -> Response:
    known = error if isinstance(error, ApiError) else ApiError(500, str(error))
    return JSONResponse(known.body(), status_code=known.status)
