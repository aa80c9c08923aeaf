"""A job in two processes, forked from a server that has torch loaded and has used neither threads nor gradients yet."""

import faulthandler
import json
import multiprocessing
import os
import pickle
import signal
import socket
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.support.memory_storage import MemoryStorage
from tests.support.training import CountedStop, Killed, run_job

from trimtab_trainer import run
from trimtab_trainer.attempt import peak_memory_bytes
from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.training_run import TrainingRun
from trimtab_trainer.world import World

Stops = Mapping[int, Mapping[str, int]]
"""Arguments of CountedStop by rank."""
PATIENCE_SECONDS = 120
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([__name__])


def run_ranks(
    config: RunConfig, directory: Path, *, stops: Stops | None = None, resumes: bool = False
) -> list[dict[str, Any]]:
    """How each rank ended: `{"signal": ...}`, or what `_run` returned. With `resumes`, from the checkpoints of the call before."""
    port, document = _free_port(), config.model_dump_json(by_alias=True)
    processes = [
        CONTEXT.Process(
            target=_write_result,
            args=(document, str(directory), rank, port, dict((stops or {}).get(rank, {}))),
            kwargs={"resumes": resumes},
        )
        for rank in (0, 1)
    ]
    for process in processes:
        process.start()
    return [_wait_for(process, directory / f"{rank}.json") for rank, process in enumerate(processes)]


def run_alone(config: RunConfig, directory: Path, *, resumes: bool = False) -> dict[str, Any]:
    """The same job in this process."""
    return _run(config, directory, name="alone", stop=None, world=World(), resumes=resumes)


def _run(
    config: RunConfig,
    directory: Path,
    *,
    name: str,
    stop: CountedStop | None,
    world: World,
    resumes: bool = False,
) -> dict[str, Any]:
    held: list[int] = []
    storage, kept = MemoryStorage(directory), directory / f"{name}.checkpoints"
    if resumes:
        storage.checkpoints = pickle.loads(kept.read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        storage.install(patch)
        real = run.report_progress
        patch.setattr(run, "report_progress", lambda attempt, one: held.append(held_bytes(one)) or real(attempt, one))
        try:
            ended = run_job(config, directory / name, stop=stop, world=world)
        finally:
            kept.write_bytes(pickle.dumps(storage.checkpoints))
    return {
        "code": ended.code,
        "step": ended.message.step,
        "message": ended.message.message,
        "history": storage.history if storage.objects else [],
        "saved": storage.saved_steps,
        "held": min(held, default=0),
        "peak": peak_memory_bytes(),
    }


def held_bytes(loop: TrainingRun) -> int:
    """Bytes of weights and of what the optimizer keeps of them."""
    parameters = [*loop.model.module.parameters(), *loop.model.trainable.values()]
    moments = [value for of_one in loop.state.optimizer.state.values() for value in of_one.values()]
    local = [one.to_local() if hasattr(one, "to_local") else one for one in (*parameters, *moments)]
    storages = {one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in local}
    return sum(storages.values())


def _write_result(document: str, directory: str, rank: int, port: int, stop: dict[str, int], *, resumes: bool) -> None:
    stacks = (Path(directory) / f"{rank}.stacks").open("w")
    faulthandler.dump_traceback_later(PATIENCE_SECONDS / 2, file=stacks)  # a rank that hangs says where
    os.environ.update({"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"})
    config, root = RunConfig.model_validate_json(document), Path(directory)
    counted = CountedStop(**stop) if stop else None
    try:
        result = _run(config, root, name=f"rank-{rank}", stop=counted, world=World(rank, 2), resumes=resumes)
    except Killed:
        os.kill(os.getpid(), signal.SIGKILL)
    except BaseException:  # noqa: BLE001 - the parent shows it
        result = {"error": traceback.format_exc()}
    (root / f"{rank}.json").write_text(json.dumps(result))


def _wait_for(process: Any, result: Path) -> dict[str, Any]:
    process.join(PATIENCE_SECONDS)
    if process.exitcode is None:
        process.kill()
        raise AssertionError(result.with_suffix(".stacks").read_text())
    if process.exitcode < 0:
        return {"signal": -process.exitcode}
    found: dict[str, Any] = json.loads(result.read_text())
    assert "error" not in found, found["error"]
    return found


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
