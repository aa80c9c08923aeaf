"""The server container: read ServerConfig, serve until SIGTERM, always leave a termination message when it cannot."""

import os
import signal
import sys
from pathlib import Path

from trimtab_trainer import logs, quota, termination
from trimtab_trainer.__main__ import SCRATCH_VARIABLE, use_scratch
from trimtab_trainer.contract import mounts
from trimtab_trainer.contract.messages import TerminationMessage
from trimtab_trainer.errors import TrainerError

CONFIG_VARIABLE = "TRIMTAB_SERVER_CONFIG_FILE"


BUILTIN = "trimtab_trainer.server.assembly"


def main(assembly: str = BUILTIN) -> int:
    """Serve; the exit code."""
    # Process 1 of a container has no default action for it; uvicorn takes over when it runs.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    logs.set_up()
    quota.limit_threads()
    try:
        scratch = use_scratch(Path(os.environ.get(SCRATCH_VARIABLE, mounts.SCRATCH_DIRECTORY)))
        # After use_scratch: libraries read their cache directories when they are imported.
        from trimtab_trainer.server.config_file import read_config  # noqa: PLC0415
        from trimtab_trainer.server.front import listen  # noqa: PLC0415
        from trimtab_trainer.server.serve import serve  # noqa: PLC0415

        path = Path(os.environ.get(CONFIG_VARIABLE, mounts.SERVER_CONFIG_FILE))
        serve(read_config(path), path, scratch, listen(mounts.SERVER_PORT), assembly=assembly)
    except TrainerError as error:
        return termination.write(TerminationMessage(reason=error.reason, message=str(error)[:1024]))
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # A download or an import in a thread cannot be interrupted, and sys.exit would wait for it.
    os._exit(code)
