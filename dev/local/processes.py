"""The daemons: started once, recorded, recognised again, and ended without ever touching a stranger's process."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from paths import LOGS, STATE, digest_of, write
from progress import StepFailedError

_RECORDS = STATE / "processes"
_POLL_SECONDS = 0.05
_TERM_SECONDS = 10.0
_TAIL_LINES = 15


@dataclass(frozen=True)
class Record:
    """One started process. Its start time tells it from a later one with the same id."""

    pid: int
    start_time: str
    command: str


def start_time(pid: int) -> str | None:
    """When a process was started, in the kernel's ticks; None when there is no such process (or only a zombie)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def _record(name: str) -> Record | None:
    try:
        return Record(**json.loads((_RECORDS / f"{name}.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None


def running(name: str) -> Record | None:
    """The daemon's record, if that very process is alive."""
    record = _record(name)
    return record if record and start_time(record.pid) == record.start_time else None


def recorded() -> list[str]:
    """Every daemon that was ever started and not yet stopped."""
    return sorted(file.stem for file in _RECORDS.glob("*.json"))


def ensure(name: str, command: Sequence[str | Path], *, env: Mapping[str, str] | None = None) -> bool:
    """Start a daemon unless it runs with this very command; True when it was started."""
    words = [str(word) for word in command]
    digest = digest_of(*words, json.dumps(dict(env or {}), sort_keys=True))
    if (record := running(name)) and record.command == digest:
        return False
    stop(name)
    LOGS.mkdir(parents=True, exist_ok=True)
    with (LOGS / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            words,
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
            env={**os.environ, **(env or {})},
        )
    started = start_time(process.pid)
    if started is None:
        raise StepFailedError(_ended(name))
    write(_RECORDS / f"{name}.json", json.dumps(asdict(Record(process.pid, started, digest))))
    return True


def stop(name: str, *, patience: float = _TERM_SECONDS) -> None:
    """End a daemon: SIGTERM, and SIGKILL when it does not listen."""
    if record := running(name):
        end(record.pid, record.start_time, patience=patience)
    (_RECORDS / f"{name}.json").unlink(missing_ok=True)


def end(pid: int, started: str, *, patience: float = _TERM_SECONDS) -> None:
    """End the process with this id and start time, and no other."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if start_time(pid) != started:
            return
        os.kill(pid, number)
        deadline = time.monotonic() + patience
        while start_time(pid) == started and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)


def wait_until(ready: Callable[[], bool], *, name: str, seconds: float = 60.0) -> None:
    """Wait for a daemon to be of use; fail with the end of its log when it dies or takes too long."""
    deadline = time.monotonic() + seconds
    while not ready():
        if running(name) is None:
            raise StepFailedError(_ended(name))
        if time.monotonic() > deadline:
            raise StepFailedError(f"{name} was not ready after {seconds:.0f} s.\n{log_tail(name)}")
        time.sleep(_POLL_SECONDS)


def _ended(name: str) -> str:
    return f"{name} ended right after its start.\n{log_tail(name)}"


def log_tail(name: str) -> str:
    """The end of a daemon's log."""
    path = LOGS / f"{name}.log"
    lines = path.read_text(errors="replace").splitlines()[-_TAIL_LINES:] if path.exists() else []
    return "\n".join([f"The end of {path}:", *lines])
