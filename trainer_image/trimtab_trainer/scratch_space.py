"""Room on the scratch volume, asked for before the first byte."""

import shutil
from pathlib import Path

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.store.transfer import MIB

SPARE_BYTES = 64 * MIB
"""Left free for everything else that writes there."""


def require_room(directory: Path, needed: int, *, what: str) -> None:
    """Make sure that a directory's volume takes `needed` more bytes of `what`.

    Raises:
        TrainerError: `WillNotFit`.
    """
    free = shutil.disk_usage(directory).free
    if needed + SPARE_BYTES > free:
        raise TrainerError(
            TrainerReason.WILL_NOT_FIT,
            f"{what} has {needed / MIB:.0f} MiB, and the scratch volume has {free / MIB:.0f} MiB free. "
            "The TrainingProfile's `scratchSize` must be larger.",
        )
