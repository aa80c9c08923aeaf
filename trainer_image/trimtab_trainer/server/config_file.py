"""The mounted ServerConfig: read at start, and read again when the kubelet swaps it."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.run_config import ServerConfig
from trimtab_trainer.errors import TrainerError

if TYPE_CHECKING:  # Versions need torch, and this file is read before torch is there.
    from trimtab_trainer.server.versions import Versions

POLL_SECONDS = 1.0
"""The kubelet swaps links behind the path; comparing a few kilobytes is simpler and surer than watching them."""


def read_config(path: Path) -> ServerConfig:
    """Read and check the file.

    Raises:
        TrainerError: ConfigInvalid naming the fields.
    """
    try:
        return parse_config(path.read_bytes())
    except OSError as error:
        raise TrainerError(TrainerReason.CONFIG_INVALID, f"ServerConfig cannot be read: {error}") from error


def parse_config(data: bytes) -> ServerConfig:
    """Check a document.

    Raises:
        TrainerError: ConfigInvalid naming the fields.
    """
    try:
        return ServerConfig.model_validate_json(data)
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, problem['loc'])) or 'document'}: {problem['msg']}" for problem in error.errors()
        ]
        raise TrainerError(TrainerReason.CONFIG_INVALID, f"ServerConfig is not valid: {'; '.join(problems)}") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""  # Between two links; the next look finds it.


async def follow_file(path: Path, versions: "Versions[Any]", *, poll_seconds: float = POLL_SECONDS) -> None:
    """Hand every change of the file to the versions, for ever. What cannot be used is refused; the old one stays."""
    seen: bytes | None = None
    while True:
        data = await asyncio.to_thread(_read, path) or seen
        if data != seen and data:
            seen = data
            try:
                config = parse_config(data)
            except TrainerError as error:
                versions.refuse_config(str(error))
            else:
                if (config != versions.config or versions.config_problem) and not versions.is_outdated(config):
                    versions.configure(config)
        await asyncio.sleep(poll_seconds)
