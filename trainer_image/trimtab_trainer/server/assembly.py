"""Puts the built-in server together: engine, versions and HTTP application."""

from pathlib import Path

from transformers.utils import logging as transformers_logging

from trimtab_trainer.contract.run_config import ServerConfig
from trimtab_trainer.quota import thread_count
from trimtab_trainer.server.app import create_app
from trimtab_trainer.server.engine import Engine
from trimtab_trainer.server.front import Front
from trimtab_trainer.server.keeping import keep
from trimtab_trainer.server.loading import Loader
from trimtab_trainer.server.metrics import Metrics
from trimtab_trainer.server.operator_channel import operator_endpoint
from trimtab_trainer.server.rooms import Rooms
from trimtab_trainer.server.sources import StoreSource
from trimtab_trainer.server.versions import Versions


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
    try:
        await keep(versions, metrics, path, operator=operator)
    finally:
        engine.stop()
