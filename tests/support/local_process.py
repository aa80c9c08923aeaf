"""A program as a local process: start, look, kill."""

import os
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self


class LocalProcess:
    """Runs between `with` and its end; may be killed and started again."""

    def __init__(
        self, command: list[str], *, log: Path, environment: Mapping[str, str], host: str = "127.0.0.1"
    ) -> None:
        self.log = log
        self.host = host
        self._command = command
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start; does not wait."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, env={**os.environ, **self._environment}, stdout=log, stderr=log
            )

    @property
    def pid(self) -> int:
        """Process id."""
        assert self._process is not None
        return self._process.pid

    def exit_code(self) -> int | None:
        """How it ended; None while it runs."""
        return self._process.poll() if self._process is not None else None

    def kill(self, number: signal.Signals = signal.SIGKILL) -> int:
        """End it by a signal and wait; returns the exit code."""
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(timeout=30)

    def stop(self) -> None:
        """End it in good order."""
        if self._process is not None and self._process.poll() is None:
            self.kill(signal.SIGTERM)

    def is_ready(self) -> bool:
        """Whether it says that it is ready."""
        raise NotImplementedError

    def wait_ready(self, timeout: float = 60.0) -> float:
        """Seconds until it was ready."""
        started = time.monotonic()
        while time.monotonic() - started < timeout:
            if self.exit_code() is not None:
                break
            if self.is_ready():
                return time.monotonic() - started
            time.sleep(0.02)
        said = self.log.read_text(errors="replace")[-2000:]
        raise TimeoutError(f"{self._command[0]} did not become ready; see {self.log}\n{said}")

    def memory_mib(self) -> tuple[float, float]:
        """Resident memory now and at its highest."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        now, peak = (int(re.search(rf"{name}:\s+(\d+)", status)[1]) / 1024 for name in ("VmRSS", "VmHWM"))  # type: ignore[index]
        return round(now, 1), round(peak, 1)

    def cpu_seconds(self) -> float:
        """Processor time used so far."""
        return cpu_seconds(self.pid)

    def get(self, port: int, path: str) -> str | None:
        """The body of an answer of 200; None for any other and for none."""
        try:
            with urllib.request.urlopen(f"http://{self.host}:{port}/{path}", timeout=5) as response:
                return str(response.read().decode())
        except (urllib.error.URLError, OSError):
            return None


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
