"""The HTTP application of the built-in server."""

from starlette.applications import Starlette
from starlette.routing import Route

from trimtab_trainer.server.openai_api import ChatRequest, CompletionRequest
from trimtab_trainer.server.probes import Probes, application
from trimtab_trainer.server.rooms import Rooms
from trimtab_trainer.server.task_endpoint import SHAPES, TaskEndpoint
from trimtab_trainer.server.text_endpoints import TextEndpoint


def create_app(rooms: Rooms) -> Starlette:
    """All endpoints over one engine."""
    return application(
        Probes(rooms.engine, rooms.versions, rooms.metrics, rooms.front),
        [
            Route("/v1/chat/completions", TextEndpoint(rooms, ChatRequest), methods=["POST"]),
            Route("/v1/completions", TextEndpoint(rooms, CompletionRequest), methods=["POST"]),
            *(Route(shape.url, TaskEndpoint(rooms, shape), methods=["POST"]) for shape in SHAPES),
        ],
    )
