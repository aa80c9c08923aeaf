"""The router's container: as the built-in server's, but the answers come from vLLM in the same pod."""

import os
import sys
from pathlib import Path

from trimtab_trainer.contract import mounts
from trimtab_trainer.server.__main__ import main as serve

DRAINED = Path(mounts.VLLM_DRAINED_FILE)


def main() -> int:
    """Route; the exit code. vLLM may end as soon as the last answer has."""
    DRAINED.unlink(missing_ok=True)
    try:
        return serve("trimtab_trainer.server.vllm.assembly")
    finally:
        DRAINED.touch()


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)
