"""The server process: HTTP at once, models as they come, an orderly end."""

import asyncio
import socket
import threading
from contextlib import suppress
from pathlib import Path
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from trimtab_trainer import logs
from trimtab_trainer.contract.exit_codes import EXIT_CODE_OF, USER_MUST_ACT
from trimtab_trainer.contract.run_config import ServerConfig
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.quota import thread_count
from trimtab_trainer.server.app import create_app
from trimtab_trainer.server.config_file import follow_file
from trimtab_trainer.server.engine import Engine
from trimtab_trainer.server.exchange import Rooms
from trimtab_trainer.server.loading import Loader
from trimtab_trainer.server.metrics import Metrics
from trimtab_trainer.server.sources import Source
from trimtab_trainer.server.versions import MAX_RETRY_SECONDS, RETRY_SECONDS, Versions

STILL_ACCEPTING_SECONDS = 3.0
"""After SIGTERM: a pod leaves its Service's endpoints only some time after it was told to stop."""
MARGIN_SECONDS = 5.0
"""Of the grace period, left for the end of the process itself."""


class Server(uvicorn.Server):
    """uvicorn, but SIGTERM first makes the pod unready, and a drained server exits with 0."""

    def __init__(self, app: ASGIApp, rooms: Rooms, *, grace_seconds: float) -> None:
        drain = max(1.0, grace_seconds - STILL_ACCEPTING_SECONDS - MARGIN_SECONDS)
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                lifespan="off",
                server_header=False,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=int(drain),
            )
        )
        self._rooms = rooms

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the interface of uvicorn
        """SIGTERM or SIGINT; the second one ends at once."""
        if self._rooms.draining:
            self.force_exit = self.should_exit = True
            return
        self._rooms.draining = True
        logs.fact("draining", open_requests=self._rooms.open_requests)
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


def serve(config: ServerConfig, path: Path, source: Source, listener: socket.socket) -> None:
    """Serve until a signal comes.

    Args:
        config: what to serve first.
        path: the file that it came from, read again when it changes.
        source: where models come from.
        listener: where requests come in.

    Raises:
        TrainerError: nothing can ever be served until a user acts.
    """
    asyncio.run(_serve(config, path, source, listener))


async def _serve(config: ServerConfig, path: Path, source: Source, listener: socket.socket) -> None:
    engine, metrics = Engine(threads=thread_count()), Metrics()
    versions = Versions(config, Loader(engine, source), metrics)
    rooms = Rooms(engine, versions, metrics)
    server = Server(create_app(rooms), rooms, grace_seconds=config.termination_grace_seconds)
    engine.start()
    http = asyncio.create_task(server.serve(sockets=[listener]))
    models = asyncio.create_task(keep_models(versions, path))
    try:
        await asyncio.wait((http, models), return_when=asyncio.FIRST_COMPLETED)
        server.stop()
        await http
        if models.done():
            models.result()
    finally:
        models.cancel()
        with suppress(asyncio.CancelledError, TrainerError):
            await models
        await asyncio.to_thread(engine.stop)


async def keep_models(versions: Versions, path: Path) -> None:
    """Load the base model, then follow the configuration, for ever.

    Raises:
        TrainerError: nothing can ever be served until a user acts.
    """
    pause = RETRY_SECONDS
    while True:
        try:
            await versions.load_base()
            break
        except TrainerError as error:
            if EXIT_CODE_OF[error.reason] in USER_MUST_ACT:
                raise
            logs.warning("base_model_missing", reason=error.reason, message=error, retry_seconds=pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, MAX_RETRY_SECONDS)
    follower = asyncio.create_task(follow_file(path, versions))
    try:
        await versions.follow()
    finally:
        follower.cancel()
