"""The HTTP application: routes, probes, metrics, the list of models."""

import time
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from trimtab_trainer.server.classify_endpoint import ClassifyEndpoint
from trimtab_trainer.server.exchange import Rooms
from trimtab_trainer.server.openai_api import ApiError, ChatRequest, CompletionRequest
from trimtab_trainer.server.text_endpoints import TextEndpoint


def create_app(rooms: Rooms) -> Starlette:
    """All endpoints over one engine."""
    probes = Probes(rooms)
    return Starlette(
        routes=[
            Route("/healthz", probes.healthz),
            Route("/readyz", probes.readyz),
            Route("/metrics", probes.metrics),
            Route("/v1/models", probes.models),
            Route("/v1/models/{model:path}", probes.model),
            Route("/v1/chat/completions", TextEndpoint(rooms, ChatRequest), methods=["POST"]),
            Route("/v1/completions", TextEndpoint(rooms, CompletionRequest), methods=["POST"]),
            Route("/v1/classify", ClassifyEndpoint(rooms), methods=["POST"]),
        ],
        exception_handlers={HTTPException: _http_error, ApiError: _api_error},
    )


class Probes:
    """What kubelet, Prometheus and clients ask about the server itself."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms
        self._created = int(time.time())

    async def healthz(self, _request: Request) -> Response:
        """200 while the engine's thread lives; else only a restart helps."""
        alive = self._rooms.engine.alive
        return PlainTextResponse("ok" if alive else "the engine's thread has ended", status_code=200 if alive else 500)

    async def readyz(self, _request: Request) -> Response:
        """200 when requests for the model are answered; the body says how far each version is, and why."""
        versions = self._rooms.versions
        ready = versions.ready and not self._rooms.front.draining
        body = {
            "ready": ready,
            "draining": self._rooms.front.draining,
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
        lanes = self._rooms.engine.lanes
        self._rooms.metrics.running.set(sum(lane.running for lane in lanes))
        self._rooms.metrics.waiting.set(sum(lane.waiting for lane in lanes))
        return Response(generate_latest(self._rooms.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    async def models(self, _request: Request) -> Response:
        """Every name that a request may give as `model`."""
        return JSONResponse(
            {"object": "list", "data": [self._described(name) for name in self._rooms.versions.names()]}
        )

    async def model(self, request: Request) -> Response:
        """One of them."""
        name = request.path_params["model"]
        if name not in self._rooms.versions.names():
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
