"""The trainer container: read RunConfig, run, map errors to ExitCode, always leave a termination message."""

import os
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from pydantic import ValidationError

from trimtab_trainer import launcher, logs, quota, termination
from trimtab_trainer.attempt import Attempt
from trimtab_trainer.contract import mounts
from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.messages import TerminationMessage, TrainerReport
from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.energy import make_meter
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.imports import many_imports
from trimtab_trainer.interruption import Interruption, StopSignal
from trimtab_trainer.reporting.progress import Reporter, StatusEndpoint
from trimtab_trainer.world import world_from_environment

RUN_CONFIG_VARIABLE = "TRIMTAB_RUN_CONFIG_FILE"
SCRATCH_VARIABLE = "TRIMTAB_SCRATCH_DIRECTORY"
CACHE_VARIABLES = {
    "HOME": "home",
    "TMPDIR": "tmp",
    "HF_HOME": "huggingface",
    "XDG_CACHE_HOME": "cache",
    "MPLCONFIGDIR": "matplotlib",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TRITON_CACHE_DIR": "triton",
}
"""Everything that libraries write goes below the scratch directory: the root file system is read-only."""


def main() -> int:
    """Run one attempt; its exit code."""
    started = time.monotonic()
    stop = StopSignal()
    stop.install()
    logs.set_up(int(os.environ.get("RANK", "0")))
    quota.limit_threads()
    try:
        scratch = use_scratch(Path(os.environ.get(SCRATCH_VARIABLE, mounts.SCRATCH_DIRECTORY)))
        config = read_run_config(Path(os.environ.get(RUN_CONFIG_VARIABLE, mounts.RUN_CONFIG_FILE)))
        if must_launch(config, os.environ):
            return launcher.run_processes(launcher.pod_environment(config.distribution, os.environ))
        attempt = make_attempt(config, stop, scratch, started=started)
    except TrainerError as error:
        return termination.write(TerminationMessage(reason=error.reason, message=str(error)[:1024]))
    except Interruption:
        return termination.write(
            TerminationMessage(reason=TrainerReason.INTERRUPTED, message="SIGTERM before the start.")
        )
    return run(attempt)


def run(attempt: Attempt) -> int:
    """Import what is slow, run the attempt, and say how it ended."""
    grace = attempt.config.termination_grace_seconds
    attempt.stop.set_deadline(grace, lambda: _leave_message(attempt, termination.interruption(attempt)))
    try:
        with many_imports():
            from trimtab_trainer.run import run_attempt  # noqa: PLC0415 - torch and transformers take seven seconds

        run_attempt(attempt)
        message = termination.success(attempt)
    except (Interruption, Exception) as error:  # noqa: BLE001 - the last line of defence: every end has its reason
        if not isinstance(error, Interruption | TrainerError):
            traceback.print_exc()
        message = termination.failure(attempt, error)
    attempt.reporter.close()
    attempt.stop.cancel_deadline()
    code = _leave_message(attempt, message)
    if attempt.world.world_size > 1:
        leave(code)
    return code


def leave(code: int) -> NoReturn:
    """End without unwinding: threads of a process group would be waited for, whose peers may be gone."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _leave_message(attempt: Attempt, message: TerminationMessage) -> int:
    """Processes of one pod share its termination log: the first one writes, others only what is news."""
    is_news = message.reason not in {"Succeeded", TrainerReason.INTERRUPTED, TrainerReason.PEER_LOST}
    if attempt.world.local_rank == 0 or is_news:
        return termination.write(message)
    return termination.write(message, Path(os.devnull))


def read_run_config(path: Path) -> RunConfig:
    """The one document that says what to do.

    Raises:
        TrainerError: ConfigInvalid naming the fields.
    """
    try:
        return RunConfig.model_validate_json(path.read_bytes())
    except OSError as error:
        raise TrainerError(TrainerReason.CONFIG_INVALID, f"RunConfig cannot be read: {error}") from error
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, problem['loc'])) or 'document'}: {problem['msg']}" for problem in error.errors()
        ]
        raise TrainerError(TrainerReason.CONFIG_INVALID, f"RunConfig is not valid: {'; '.join(problems)}") from error


def use_scratch(scratch: Path, environment: "os._Environ[str]" = os.environ) -> Path:
    """Send every cache below the scratch directory.

    Raises:
        TrainerError: ConfigInvalid where it cannot be written.
    """
    try:
        for variable, name in CACHE_VARIABLES.items():
            directory = scratch / name
            directory.mkdir(parents=True, exist_ok=True)
            environment[variable] = str(directory)
    except OSError as error:
        raise TrainerError(
            TrainerReason.CONFIG_INVALID, f"The scratch directory {scratch} must be writable: {error}"
        ) from error
    environment.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    return scratch


def make_attempt(config: RunConfig, stop: StopSignal, scratch: Path, *, started: float) -> Attempt:
    """The attempt with its connections to the operator, as far as the environment names them."""
    world = world_from_environment()
    report_url, version_url = os.environ.get(mounts.REPORT_URL_VARIABLE), os.environ.get(mounts.VERSION_URL_VARIABLE)
    endpoint = StatusEndpoint(report_url) if report_url and world.is_main else None
    return Attempt(
        config=config,
        stop=stop,
        reporter=Reporter(TrainerReport(attempt=config.attempt, phase="Preparing"), endpoint),
        scratch=scratch,
        world=world,
        version_endpoint=StatusEndpoint(version_url) if version_url else None,
        started=started,
        meter=make_meter(has_accelerators=config.distribution.accelerators_per_node > 0),
    )


def must_launch(config: RunConfig, environment: Mapping[str, str]) -> bool:
    """Several processes are wanted, and nobody has started them yet."""
    return "RANK" not in environment and (
        config.distribution.nodes > 1 or config.distribution.accelerators_per_node > 1
    )


if __name__ == "__main__":
    sys.exit(main())
