"""A job in two processes, forked from a server that has torch loaded and has used neither threads nor gradients yet."""

import faulthandler
import json
import multiprocessing
import os
import signal
import socket
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.support.memory_storage import MemoryStorage
from tests.support.training import CountedStop, Killed, run_job

from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.world import World

Stops = Mapping[int, Mapping[str, int]]
"""Arguments of CountedStop by rank."""
PATIENCE_SECONDS = 120
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([__name__])


def run_ranks(config: RunConfig, directory: Path, *, stops: Stops | None = None) -> list[dict[str, Any]]:
    """How each rank ended: `{"signal": ...}`, or what `run_rank` returned."""
    port, document = _free_port(), config.model_dump_json(by_alias=True)
    processes = [
        CONTEXT.Process(
            target=_write_result, args=(document, str(directory), rank, port, dict((stops or {}).get(rank, {})))
        )
        for rank in (0, 1)
    ]
    for process in processes:
        process.start()
    return [_wait_for(process, directory / f"{rank}.json") for rank, process in enumerate(processes)]


def run_alone(config: RunConfig, directory: Path) -> dict[str, Any]:
    """The same job in this process."""
    return _run(config, directory, name="alone", stop=None, world=World())


def _run(config: RunConfig, directory: Path, *, name: str, stop: CountedStop | None, world: World) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trimtab_trainer.run.thread_count", lambda: 1)
        storage = MemoryStorage(directory)
        storage.install(patch)
        ended = run_job(config, directory / name, stop=stop, world=world)
    return {
        "code": ended.code,
        "step": ended.message.step,
        "message": ended.message.message,
        "history": storage.history if storage.objects else [],
        "saved": storage.saved_steps,
    }


def _write_result(document: str, directory: str, rank: int, port: int, stop: dict[str, int]) -> None:
    stacks = (Path(directory) / f"{rank}.stacks").open("w")
    faulthandler.dump_traceback_later(PATIENCE_SECONDS / 2, file=stacks)  # a rank that hangs says where
    os.environ.update({"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"})
    config, root = RunConfig.model_validate_json(document), Path(directory)
    counted = CountedStop(**stop) if stop else None
    try:
        result = _run(config, root, name=f"rank-{rank}", stop=counted, world=World(rank, 2))
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
