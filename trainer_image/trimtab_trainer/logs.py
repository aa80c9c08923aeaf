"""Logs are facts with keys, one a line: `checkpoint_committed step=50 bytes=58600000`."""

import logging
import sys
import warnings
from typing import Any

_log = logging.getLogger("trimtab_trainer")


def set_up(rank: int = 0) -> None:
    """Write facts to stdout; libraries speak from WARNING on."""
    handler = logging.StreamHandler(sys.stdout)
    prefix = f"rank={rank} " if rank else ""
    handler.setFormatter(logging.Formatter(f"%(asctime)s %(levelname)s {prefix}%(message)s", "%Y-%m-%dT%H:%M:%S%z"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    warnings.simplefilter("ignore", FutureWarning)  # of libraries, for their developers
    _log.setLevel(logging.INFO)


def fact(name: str, /, **values: Any) -> None:
    """Log one fact."""
    _log.info("%s", line(name, values))


def warning(name: str, /, **values: Any) -> None:
    """Log one fact that a reader should act on."""
    _log.warning("%s", line(name, values))


def line(name: str, values: dict[str, Any]) -> str:
    """`name key=value ...`; floats with six digits, text with spaces in quotes."""
    return " ".join([name, *(f"{key}={_shown(value)}" for key, value in values.items() if value is not None)])


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value).replace("\n", " ")
    return f'"{text}"' if " " in text or not text else text
