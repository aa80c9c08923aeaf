"""The server process: HTTP at once, models as they come, an orderly end."""

import asyncio
import importlib
import socket
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from trimtab_trainer.contract.run_config import ServerConfig
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.imports import many_imports
from trimtab_trainer.server.front import Front, Server


def serve(config: ServerConfig, path: Path, scratch: Path, listener: socket.socket, *, assembly: str) -> None:
    """Serve until a signal comes.

    Args:
        config: what to serve first.
        path: the file that it came from, read again when it changes.
        scratch: where downloads go.
        listener: where requests come in.
        assembly: module that puts the server together; imported while HTTP already answers.

    Raises:
        TrainerError: nothing can ever be served until a user acts.
    """
    # Not asyncio.run: at the end it would wait for downloads in threads.
    loop = asyncio.new_event_loop()
    try:
        models = partial(_run_models, config, path, scratch, assembly)
        loop.run_until_complete(_serve(models, listener, grace_seconds=config.termination_grace_seconds))
    finally:
        loop.close()


async def _serve(
    run_models: Callable[[Front], Coroutine[Any, Any, None]], listener: socket.socket, *, grace_seconds: float
) -> None:
    front = Front()
    server = Server(front, grace_seconds=grace_seconds)
    http = asyncio.create_task(server.serve(sockets=[listener]))
    models = asyncio.create_task(run_models(front))
    await asyncio.wait((http, models), return_when=asyncio.FIRST_COMPLETED)
    server.stop()
    await http
    if models.done():
        models.result()
    models.cancel()
    with suppress(asyncio.CancelledError, TrainerError):
        await models


async def _run_models(config: ServerConfig, path: Path, scratch: Path, assembly: str, front: Front) -> None:
    # In a thread: torch and transformers take seven seconds, minutes on a busy node, and the kubelet asks meanwhile.
    module = await asyncio.to_thread(_imported, assembly)
    await module.run(config, path, scratch, front)


def _imported(module: str) -> Any:
    with many_imports():
        return importlib.import_module(module)
