"""How a trainer ends: one exit code and one termination message for each way."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.support.training import make_job

from trimtab_trainer import __main__ as program
from trimtab_trainer import termination
from trimtab_trainer.contract.exit_codes import ExitCode, TrainerReason
from trimtab_trainer.contract.messages import (
    MAX_TERMINATION_BYTES,
    CommittedCheckpoint,
    MetricValue,
    TerminationMessage,
)
from trimtab_trainer.contract.spec import Distribution
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.interruption import Interruption, StopSignal
from trimtab_trainer.launcher import pod_environment, run_processes
from trimtab_trainer.quota import SPINS, THREAD_VARIABLES, cpu_quota, limit_threads, memory_limit, thread_count


@pytest.fixture
def container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pod's file system, with a RunConfig that can be changed."""
    for variable in program.CACHE_VARIABLES:
        monkeypatch.setenv(variable, os.environ.get(variable, ""))
    monkeypatch.setenv(program.SCRATCH_VARIABLE, str(tmp_path / "scratch"))
    monkeypatch.setenv(program.RUN_CONFIG_VARIABLE, str(tmp_path / "run-config.json"))
    monkeypatch.setenv(termination.FILE_VARIABLE, str(tmp_path / "termination-log"))
    (tmp_path / "run-config.json").write_text(json.dumps(make_job().to_json()))
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield tmp_path
    for number, handler in handlers.items():
        signal.signal(number, handler)


def message(container: Path) -> TerminationMessage:
    return TerminationMessage.model_validate_json((container / "termination-log").read_bytes())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(None, "RunConfig cannot be read", id="missing"),
        pytest.param("{", "RunConfig is not valid: document: Invalid JSON", id="no JSON"),
        pytest.param({"unknown": 1}, "unknown: Extra inputs are not permitted", id="an unknown field"),
        pytest.param(
            {"method": {"lora": {}, "full": {}}}, "method: Value error, exactly one of lora, full", id="two methods"
        ),
    ],
)
def test_a_wrong_run_config_is_named(content: Any, words: str, container: Path) -> None:
    path = container / "run-config.json"
    if content is None:
        path.unlink()
    else:
        path.write_text(content if isinstance(content, str) else json.dumps({**make_job().to_json(), **content}))
    assert program.main() == ExitCode.CONFIG_INVALID
    assert message(container).reason is TrainerReason.CONFIG_INVALID
    assert words in message(container).message


class OutOfMemoryError(RuntimeError):
    """As torch names it."""


@pytest.mark.parametrize(
    ("error", "reason", "words"),
    [
        pytest.param(
            TrainerError(TrainerReason.WILL_NOT_FIT, "too big"),
            TrainerReason.WILL_NOT_FIT,
            "too big",
            id="a reason of ours",
        ),
        pytest.param(
            Interruption(), TrainerReason.INTERRUPTED, "SIGTERM at step 0. There was nothing to save yet.", id="SIGTERM"
        ),
        pytest.param(MemoryError(), TrainerReason.OUT_OF_MEMORY, "microBatchSize", id="Python's memory"),
        pytest.param(OutOfMemoryError("CUDA"), TrainerReason.OUT_OF_MEMORY, "CUDA", id="the GPU's memory"),
        pytest.param(
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
            TrainerReason.OUT_OF_MEMORY,
            "microBatchSize",
            id="torch's memory",
        ),
        pytest.param(ValueError("odd\nlong"), TrainerReason.TRAINER_ERROR, "ValueError: odd", id="anything else"),
    ],
)
def test_every_end_has_its_reason(
    error: BaseException, reason: TrainerReason, words: str, container: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise error

    monkeypatch.setattr("trimtab_trainer.run.run_attempt", fail)
    assert program.main() == ExitCode[reason.name]
    assert (message(container).reason, words in message(container).message) == (reason, True)
    assert os.environ["HOME"].startswith(str(container / "scratch"))


@pytest.mark.parametrize(
    "long",
    [
        pytest.param({"message": 1024 * "\x00"}, id="text that JSON blows up"),
        pytest.param({"metrics": [MetricValue(name=64 * "n", value=400 * "v")] * 8}, id="metrics"),
        pytest.param(
            {
                "last_checkpoint": CommittedCheckpoint(
                    step=1, attempt=1, uri=4000 * "u", manifest_sha256="", bytes=1, time=""
                )
            },
            id="a long URI",
        ),
        pytest.param({"message": 1024 * "ü"}, id="umlauts"),
        pytest.param({"report_uri": 4000 * "u"}, id="a long prefix of the store"),
    ],
)
def test_a_termination_message_always_fits(long: dict[str, Any]) -> None:
    data = termination.encode(TerminationMessage(reason=TrainerReason.TRAINER_ERROR).model_copy(update=long))
    assert len(data) <= MAX_TERMINATION_BYTES
    assert TerminationMessage.model_validate_json(data).reason is TrainerReason.TRAINER_ERROR


def test_metrics_of_a_checkpoint_go_before_the_checkpoint_itself() -> None:
    metrics = {f"eval_accuracy_of_group_{number}": 0.5 for number in range(150)}
    saved = CommittedCheckpoint(
        step=7, attempt=1, uri="s3://b/7", manifest_sha256=64 * "0", bytes=1, time="", metrics=metrics
    )
    data = termination.encode(TerminationMessage(reason=TrainerReason.INTERRUPTED, last_checkpoint=saved))
    left = TerminationMessage.model_validate_json(data).last_checkpoint
    assert len(data) <= MAX_TERMINATION_BYTES
    assert left is not None
    assert (left.step, left.metrics) == (7, {})


@pytest.mark.usefixtures("container")
def test_sigterm_raises_at_once_while_nothing_is_worth_saving() -> None:
    stop = StopSignal()
    stop.install()
    with pytest.raises(Interruption):
        signal.raise_signal(signal.SIGTERM)
    stop.cancel_deadline()
    assert stop.requested


@pytest.mark.usefixtures("container")
def test_sigterm_is_a_flag_while_there_is_something_to_save() -> None:
    stop = StopSignal()
    stop.install()
    with stop.finish_first():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        stop.cancel_deadline()
        assert stop.requested
    with pytest.raises(Interruption), stop.finish_first():
        pytest.fail("a stop that came before must be heeded")


def test_a_save_that_does_not_end_still_leaves_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    left, ended = threading.Event(), threading.Event()
    monkeypatch.setattr("trimtab_trainer.interruption.MARGIN_SECONDS", 1000)
    monkeypatch.setattr("os._exit", lambda code: ended.set() if code == ExitCode.INTERRUPTED else None)
    stop = StopSignal()
    stop.set_deadline(1, left.set)
    with pytest.raises(Interruption):
        stop._received(signal.SIGTERM, None)
    assert left.wait(30)
    assert ended.wait(30)


@pytest.mark.parametrize(
    ("distribution", "environment", "expected"),
    [
        pytest.param(
            {"nodes": 2},
            {"JOB_COMPLETION_INDEX": "1", "MASTER_ADDR": "pod-0"},
            [("1", "0", "2", "pod-0")],
            id="second of two pods",
        ),
        pytest.param(
            {"acceleratorsPerNode": 2},
            {},
            [("0", "0", "2", "127.0.0.1"), ("1", "1", "2", "127.0.0.1")],
            id="two accelerators",
        ),
        pytest.param(
            {"nodes": 2, "acceleratorsPerNode": 2},
            {"JOB_COMPLETION_INDEX": "1", "MASTER_ADDR": "a"},
            [("2", "0", "4", "a"), ("3", "1", "4", "a")],
            id="both",
        ),
    ],
)
def test_every_process_knows_its_rank(
    distribution: dict[str, int], environment: dict[str, str], expected: list[tuple[str, ...]]
) -> None:
    found = pod_environment(Distribution.model_validate(distribution), environment)
    assert [(one["RANK"], one["LOCAL_RANK"], one["WORLD_SIZE"], one["MASTER_ADDR"]) for one in found] == expected


@pytest.mark.parametrize("environment", [{}, {"MASTER_ADDR": "a", "JOB_COMPLETION_INDEX": "2"}])
def test_a_pod_that_cannot_know_its_rank_is_refused(environment: dict[str, str]) -> None:
    with pytest.raises(TrainerError, match="MASTER_ADDR and JOB_COMPLETION_INDEX"):
        pod_environment(Distribution(nodes=2), environment)


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        pytest.param("pass", 0, id="all succeed"),
        pytest.param(
            "if os.environ['RANK'] == '1': sys.exit(12)\ntime.sleep(600)", 12, id="the first failure ends all"
        ),
        pytest.param(
            "if os.environ['RANK'] == '1': os.kill(os.getpid(), 9)\ntime.sleep(600)", 137, id="a child that was killed"
        ),
    ],
)
def test_the_pods_exit_code_is_that_of_the_first_child_to_fail(
    script: str, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = subprocess.Popen

    def start_script(_command: list[str], **options: Any) -> Any:
        return start([sys.executable, "-c", f"import os, sys, time\n{script}"], **options)

    monkeypatch.setattr("subprocess.Popen", start_script)
    handler = signal.getsignal(signal.SIGTERM)
    try:
        assert run_processes([{"RANK": "0"}, {"RANK": "1"}]) == expected
    finally:
        signal.signal(signal.SIGTERM, handler)


@pytest.mark.parametrize(
    ("files", "cpus", "memory"),
    [
        pytest.param({"cpu.max": "150000 100000\n", "memory.max": "1024\n"}, 1.5, 1024, id="version 2"),
        pytest.param({"cpu.max": "max 100000\n", "memory.max": "max\n"}, None, None, id="version 2 without limits"),
        pytest.param(
            {"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000", "memory/memory.limit_in_bytes": "7"},
            0.5,
            7,
            id="version 1",
        ),
        pytest.param(
            {
                "cpu/cpu.cfs_quota_us": "-1",
                "cpu/cpu.cfs_period_us": "100000",
                "memory/memory.limit_in_bytes": str(2**63 - 4096),
            },
            None,
            None,
            id="version 1 without limits",
        ),
        pytest.param({}, None, None, id="no cgroup"),
    ],
)
def test_the_containers_limits_are_read(
    files: dict[str, str], cpus: float | None, memory: int | None, tmp_path: Path
) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    assert (cpu_quota(tmp_path), memory_limit(tmp_path)) == (cpus, memory)
    assert thread_count(tmp_path) >= 1


@pytest.mark.parametrize(
    ("given", "waits"),
    [
        pytest.param({}, {"GOMP_SPINCOUNT": str(SPINS)}, id="nothing given: threads look for work for a moment"),
        pytest.param({"GOMP_SPINCOUNT": "300000"}, {"GOMP_SPINCOUNT": "300000"}, id="a node of its own"),
        pytest.param({"OMP_WAIT_POLICY": "PASSIVE"}, {"OMP_WAIT_POLICY": "PASSIVE"}, id="a policy"),
    ],
)
def test_how_threads_wait_is_the_users_choice(given: dict[str, str], waits: dict[str, str]) -> None:
    environment = dict(given)
    limit_threads(environment)
    assert environment == {**dict.fromkeys(THREAD_VARIABLES, str(thread_count())), **waits}


def test_threads_that_the_user_counted_stay() -> None:
    environment = {"OMP_NUM_THREADS": "3"}
    limit_threads(environment)
    assert environment["OMP_NUM_THREADS"] == "3"
