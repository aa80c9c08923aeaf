"""Two processes over gloo: the same run as one process, stopped together, and noticing when one is gone."""

import json
import os
import signal
import socket
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.training import CountedStop, Killed, MemoryStorage, make_job, run_job

from trimtab_trainer.contract.exit_codes import ExitCode
from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.world import World

Stops = dict[int, CountedStop]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def run_ranks(config: RunConfig, directory: Path, *, stops: Stops | None = None) -> list[dict[str, Any]]:
    """The job in two forked processes, which have torch already; how each ended."""
    port = free_port()
    children = [
        fork(lambda rank=rank: run_rank(config, directory, rank, port, stops or {}), directory / f"{rank}.json")
        for rank in (0, 1)
    ]
    return [wait_for(process, path) for process, path in children]


def fork(work: Callable[[], dict[str, Any]], result: Path) -> tuple[int, Path]:
    process = os.fork()
    if process == 0:
        try:
            result.write_text(json.dumps(work()))
        except Killed:
            os.kill(os.getpid(), signal.SIGKILL)
        except BaseException:  # noqa: BLE001 - the parent shows it
            result.write_text(json.dumps({"error": traceback.format_exc()}))
        finally:
            os._exit(0)
    return process, result


def wait_for(process: int, result: Path) -> dict[str, Any]:
    _, status = os.waitpid(process, 0)
    if os.WIFSIGNALED(status):
        return {"signal": os.WTERMSIG(status)}
    found: dict[str, Any] = json.loads(result.read_text())
    assert "error" not in found, found["error"]
    return found


def run_rank(config: RunConfig, directory: Path, rank: int, port: int, stops: Stops) -> dict[str, Any]:
    torch.set_num_threads(1)  # OpenMP's threads do not survive a fork
    os.environ.update({"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trimtab_trainer.run.thread_count", lambda: 1)
        storage = MemoryStorage(directory)
        storage.install(patch)
        ended = run_job(config, directory / f"rank-{rank}", stop=stops.get(rank), world=World(rank, 2))
    history = storage.history if storage.objects else []
    return {
        "code": ended.code,
        "step": ended.message.step,
        "message": ended.message.message,
        "history": history,
        "saved": storage.saved_steps,
    }


@pytest.fixture
def directory(job_files: Path, tmp_path: Path) -> Path:
    for name in ("models", "data"):
        (tmp_path / name).symlink_to(job_files / name)
    return tmp_path


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"method": {"lora": {"r": 4}}}, id="lora, packed"),
        pytest.param(
            {"method": {"full": {}}, "data": {"packing": False}, "training": {"globalBatchSize": 3}},
            id="full, shares of unequal size",
        ),
    ],
)
def test_two_processes_train_as_one(changes: dict[str, Any], directory: Path) -> None:
    config = make_job(**changes, model={"uri": "s3://models/llama-no-dropout"})
    both = run_ranks(config, directory)
    alone = run_alone(config, directory)
    assert [ended["code"] for ended in both] == [0, 0]
    assert (both[0]["saved"], both[1]["saved"]) == (alone["saved"], [])
    assert len(both[0]["history"]) == len(alone["history"]) > 0
    for line, expected in zip(both[0]["history"], alone["history"], strict=True):
        assert line == pytest.approx(expected, rel=2e-4)


def run_alone(config: RunConfig, directory: Path) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        storage = MemoryStorage(directory)
        storage.install(patch)
        ended = run_job(config, directory / "alone")
    return {"code": ended.code, "history": storage.history, "saved": storage.saved_steps}


def test_sigterm_on_any_rank_stops_all_at_the_same_step(directory: Path) -> None:
    both = run_ranks(make_job(), directory, stops={1: CountedStop(term_at=8)})
    assert [ended["code"] for ended in both] == [ExitCode.INTERRUPTED, ExitCode.INTERRUPTED]
    assert both[0]["step"] == both[1]["step"] == both[0]["saved"][-1]


def test_a_lost_peer_ends_the_attempt_and_the_last_step_is_saved(directory: Path) -> None:
    both = run_ranks(
        make_job(checkpoints={"everySteps": None, "everySeconds": None}), directory, stops={1: CountedStop(kill_at=8)}
    )
    assert both[1] == {"signal": signal.SIGKILL}
    assert both[0]["code"] == ExitCode.PEER_LOST
    assert "Another process of this attempt was lost" in both[0]["message"]
    assert both[0]["saved"] == [both[0]["step"]]
