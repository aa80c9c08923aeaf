"""Keeps the models of a server as its configuration wants them, whatever computes the answers."""

import asyncio
from pathlib import Path
from typing import Any

from trimtab_trainer import logs
from trimtab_trainer.contract.exit_codes import EXIT_CODE_OF, USER_MUST_ACT
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.reporting.progress import StatusEndpoint
from trimtab_trainer.server.config_file import follow_file
from trimtab_trainer.server.metrics import Metrics
from trimtab_trainer.server.operator_channel import OperatorChannel
from trimtab_trainer.server.versions import RETRY_SECONDS, Versions


async def keep(versions: Versions[Any], metrics: Metrics, path: Path, *, operator: StatusEndpoint | None) -> None:
    """Report to the operator, where there is one, and keep the models, until cancelled.

    Raises:
        TrainerError: nothing can ever be served until a user acts.
    """
    channel = OperatorChannel(operator, versions, metrics) if operator is not None else None
    listening = asyncio.create_task(channel.run()) if channel is not None else None
    try:
        await keep_models(versions, path)
    finally:
        if listening is not None:
            listening.cancel()


async def keep_models(versions: Versions[Any], path: Path) -> None:
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
