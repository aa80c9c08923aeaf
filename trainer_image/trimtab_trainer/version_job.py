"""The Job that looks at a published version: reads every byte back and, if asked to, measures it, its base and the champion.

`python -m trimtab_trainer.version_job`. The result is the termination message; nothing is written to the store, but what is imported, and
nothing is deleted, but a version that is to go.
"""

import os
import sys
import traceback
from pathlib import Path

from pydantic import ValidationError

from trimtab_trainer import logs, quota, termination
from trimtab_trainer.__main__ import SCRATCH_VARIABLE, use_scratch
from trimtab_trainer.contract import mounts
from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.messages import TerminationMessage, Verification
from trimtab_trainer.contract.run_config import ResolvedModelVersion, VersionJobConfig
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.import_model import import_model, resolved
from trimtab_trainer.imports import many_imports
from trimtab_trainer.interruption import Interruption, StopSignal
from trimtab_trainer.publishing.delete import delete
from trimtab_trainer.publishing.verify import check_signature, verify
from trimtab_trainer.store.object_store import ObjectStore

_MESSAGE = 512
CONFIG_VARIABLE = "TRIMTAB_VERSION_JOB_FILE"


def main() -> int:
    """Look at one version; the exit code."""
    stop = StopSignal()
    stop.install()
    logs.set_up(0)
    quota.limit_threads()
    try:
        scratch = use_scratch(Path(os.environ.get(SCRATCH_VARIABLE, mounts.SCRATCH_DIRECTORY)))
        config = read_config(Path(os.environ.get(CONFIG_VARIABLE, mounts.VERSION_JOB_FILE)))
        message = look(config, scratch=scratch, stop=stop)
    except TrainerError as error:
        message = TerminationMessage(reason=error.reason, message=str(error)[:1024])
    except Interruption:
        message = TerminationMessage(reason=TrainerReason.INTERRUPTED, message="SIGTERM before the end.")
    return termination.write(message)


def read_config(path: Path) -> VersionJobConfig:
    """The one document that says what to do.

    Raises:
        TrainerError: ConfigInvalid.
    """
    try:
        return VersionJobConfig.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise TrainerError(TrainerReason.CONFIG_INVALID, f"VersionJobConfig cannot be read: {error}") from error


def look(config: VersionJobConfig, *, scratch: Path, stop: StopSignal) -> TerminationMessage:
    """Import if asked to, verify, then measure if asked to; or delete. Bytes that do not match are not loaded.

    Raises:
        TrainerError: the store's errors while verifying.
    """
    with ObjectStore.open(config.store) as store:
        if config.delete is not None:
            return delete(config, config.delete, store)
        published, version = None, config.version
        if config.import_from is not None:
            published = import_model(config, config.import_from, store=store, scratch=scratch)
            version = resolved(config.import_from, published)
        if version is None:
            raise TrainerError(TrainerReason.CONFIG_INVALID, "VersionJobConfig names neither a version nor an import.")
        message = check(config.model_copy(update={"version": version}), version, store, scratch=scratch, stop=stop)
        return message.model_copy(update={"published": published})


def check(
    config: VersionJobConfig, version: ResolvedModelVersion, store: ObjectStore, *, scratch: Path, stop: StopSignal
) -> TerminationMessage:
    """Verify, then measure if asked to.

    Raises:
        TrainerError: the store's errors while verifying.
    """
    try:
        check_signature(version, config.signatures, signed=config.signed, store=store)
    except TrainerError as error:
        if error.reason is not TrainerReason.SIGNATURE_INVALID:
            raise
        refused = Verification(holds=False, message=str(error)[:_MESSAGE])
        return TerminationMessage(reason=error.reason, message=str(error)[:1024], verification=refused)
    verification = verify(version, store)
    logs.fact("verified", version=version.name, holds=verification.holds, message=verification.message)
    if not verification.holds:
        return TerminationMessage(
            reason=TrainerReason.DIGEST_MISMATCH, message=verification.message, verification=verification
        )
    if config.evaluate is None:
        return TerminationMessage(reason="Succeeded", verification=verification)
    return _measure(config, store, verification, scratch=scratch, stop=stop)


def _measure(
    config: VersionJobConfig, store: ObjectStore, verification: Verification, *, scratch: Path, stop: StopSignal
) -> TerminationMessage:
    try:
        with many_imports():
            from trimtab_trainer.version_evaluation import evaluate_version  # noqa: PLC0415 - torch takes seconds

        measured = evaluate_version(config, store, scratch=scratch, stop=stop)
    except (Interruption, Exception) as error:  # noqa: BLE001 - the last line of defence: every end has its reason
        if not isinstance(error, Interruption | TrainerError):
            traceback.print_exc()
        return TerminationMessage(
            reason=termination.reason_of(error), message=str(error)[:1024], verification=verification
        )
    return measured.model_copy(update={"verification": verification})


if __name__ == "__main__":
    sys.exit(main())
