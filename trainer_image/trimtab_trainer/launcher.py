"""Starts one process per accelerator of this pod, in torchrun's environment protocol.

torchrun itself turns every exit code of a child into 1 and kills children 30 s after SIGTERM; the operator needs our
exit codes, and a checkpoint may need longer. The attempt's Jobs are started anew as a whole, so that none of torchrun's
elasticity is missed.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping

from trimtab_trainer.contract import mounts
from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.spec import Distribution
from trimtab_trainer.errors import TrainerError

POLL_SECONDS = 0.2
INDEX_VARIABLE = "JOB_COMPLETION_INDEX"


def pod_environment(distribution: Distribution, environment: Mapping[str, str]) -> list[dict[str, str]]:
    """What each process of this pod gets in its environment; one dictionary per process.

    Raises:
        TrainerError: ConfigInvalid where the pod does not know its index or where pod 0 is.
    """
    processes = max(1, distribution.accelerators_per_node)
    index = int(environment.get(INDEX_VARIABLE, "0"))
    address = environment.get("MASTER_ADDR", "127.0.0.1" if distribution.nodes == 1 else "")
    if not address or not 0 <= index < distribution.nodes:
        raise TrainerError(
            TrainerReason.CONFIG_INVALID,
            f"`distribution.nodes: {distribution.nodes}` needs MASTER_ADDR and {INDEX_VARIABLE} below it in the pod's "
            f"environment; got '{address}' and {index}.",
        )
    return [
        {
            "RANK": str(index * processes + local_rank),
            "LOCAL_RANK": str(local_rank),
            "WORLD_SIZE": str(distribution.nodes * processes),
            "LOCAL_WORLD_SIZE": str(processes),
            "MASTER_ADDR": address,
            "MASTER_PORT": environment.get("MASTER_PORT", str(mounts.RENDEZVOUS_PORT)),
        }
        for local_rank in range(processes)
    ]


def run_processes(environments: list[dict[str, str]]) -> int:
    """Run the trainer once per environment; the first failure ends all, and its exit code is the pod's."""
    command = [sys.executable, "-m", "trimtab_trainer"]
    children = [subprocess.Popen(command, env={**os.environ, **each}) for each in environments]  # noqa: S603 - ourselves
    signal.signal(signal.SIGTERM, lambda *_: _terminate(children))
    first_failure = 0
    while None in [child.poll() for child in children]:
        first_failure = first_failure or next((child.returncode for child in children if child.returncode), 0)
        if first_failure:
            _terminate(children)
        time.sleep(POLL_SECONDS)
    code = first_failure or next((child.returncode for child in children if child.returncode), 0)
    # A child that a signal ended has a negative return code; the kernel's convention is 128 + signal.
    return code if code >= 0 else 128 - code


def _terminate(children: list["subprocess.Popen[bytes]"]) -> None:
    for child in children:
        if child.poll() is None:
            child.terminate()
