"""Puts engine, versions and HTTP application together, and keeps the models as the configuration wants them."""

import asyncio
from pathlib import Path

from transformers.utils import logging as transformers_logging

from trimtab_trainer import logs
from trimtab_trainer.contract.exit_codes import EXIT_CODE_OF, USER_MUST_ACT
from trimtab_trainer.contract.run_config import ServerConfig
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.quota import thread_count
from trimtab_trainer.server.app import create_app
from trimtab_trainer.server.config_file import follow_file
from trimtab_trainer.server.engine import Engine
from trimtab_trainer.server.exchange import Rooms
from trimtab_trainer.server.front import Front
from trimtab_trainer.server.loading import Loader
from trimtab_trainer.server.metrics import Metrics
from trimtab_trainer.server.operator_channel import OperatorChannel, operator_endpoint
from trimtab_trainer.server.sources import StoreSource
from trimtab_trainer.server.versions import RETRY_SECONDS, Versions


async def run(config: ServerConfig, path: Path, scratch: Path, front: Front) -> None:
    """Serve models behind the front, until cancelled.

    Raises:
        TrainerError: nothing can ever be served until a user acts.
    """
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()  # a head that adapters bring is "newly initialized" by design
    engine, metrics = Engine(threads=thread_count()), Metrics()
    operator = operator_endpoint()
    versions = Versions(
        config, Loader(engine, StoreSource(scratch / "models")), metrics, is_guided=operator is not None
    )
    engine.start()
    front.app = create_app(Rooms(engine, versions, metrics, front))
    channel = OperatorChannel(operator, versions, metrics) if operator is not None else None
    listening = asyncio.create_task(channel.run()) if channel is not None else None
    try:
        await keep_models(versions, path)
    finally:
        if listening is not None:
            listening.cancel()
        engine.stop()


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
            if EXIT_CODE_OF[error.reason] in USER_MUST_ACT and not versions.is_guided:
                raise
            versions.base_failed(error)
            logs.warning("base_model_missing", reason=error.reason, message=error, retry_seconds=pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, versions.max_retry_seconds)
    follower = asyncio.create_task(follow_file(path, versions))
    try:
        await versions.follow()
    finally:
        follower.cancel()
