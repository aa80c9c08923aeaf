"""What the port answers from the first second on, while torch is still being imported. Imports neither torch nor models."""

import json
import socket
import threading

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from trimtab_trainer import logs

STILL_ACCEPTING_SECONDS = 3.0
"""After SIGTERM: a pod leaves its Service's endpoints only some time after it was told to stop."""
MARGIN_SECONDS = 5.0
"""Of the grace period, left for the end of the process itself."""


class Front:
    """The ASGI application that uvicorn knows: alive but not ready, until the real one takes over."""

    def __init__(self) -> None:
        self.app: ASGIApp | None = None
        self.draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if self.app is not None:
            await self.app(scope, receive, send)
            return
        alive = scope["path"] == "/healthz"
        error = {"message": "The server is starting.", "type": "server_error", "param": None, "code": "model_not_ready"}
        document = {"alive": True} if alive else {"ready": False, "error": error}
        headers = [(b"content-type", b"application/json"), (b"retry-after", b"5")]
        await send({"type": "http.response.start", "status": 200 if alive else 503, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(document).encode()})


class Server(uvicorn.Server):
    """uvicorn, but SIGTERM first makes the pod unready, and a drained server exits with 0."""

    def __init__(self, front: Front, *, grace_seconds: float) -> None:
        drain = max(1.0, grace_seconds - STILL_ACCEPTING_SECONDS - MARGIN_SECONDS)
        super().__init__(
            uvicorn.Config(
                front,
                log_config=None,
                access_log=False,
                lifespan="off",
                server_header=False,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=int(drain),
            )
        )
        self._front = front

    def handle_exit(self, sig: int, frame: object) -> None:  # noqa: ARG002 - the interface of uvicorn
        """SIGTERM or SIGINT; the second one ends at once."""
        if self._front.draining:
            self.force_exit = self.should_exit = True
            return
        self._front.draining = True
        logs.fact("draining")
        if self._front.app is None:
            self.stop()  # It was never ready: nobody asks it.
            return
        timer = threading.Timer(STILL_ACCEPTING_SECONDS, self.stop)
        timer.daemon = True
        timer.start()

    def stop(self) -> None:
        """Accept nothing more, finish what is open, end."""
        self.should_exit = True


def listen(port: int, host: str = "") -> socket.socket:
    """A listening socket; without a host on every address, IPv6 and IPv4."""
    if host or not socket.has_dualstack_ipv6():
        return socket.create_server((host, port))
    return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
