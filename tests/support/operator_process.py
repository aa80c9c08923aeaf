"""The operator as a local process: start, look, kill."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

REPOSITORY = Path(__file__).resolve().parents[2]
_READS = {"GET", "LIST"}


class OperatorProcess:
    """`python -m trimtab_operator run` against KUBECONFIG, without leader election, with a certificate of its own."""

    def __init__(
        self, *, log: Path, module: tuple[str, ...] = ("-m", "trimtab_operator"), settings: dict[str, str] | None = None
    ) -> None:
        self.log = log
        self.probe_port, self.metrics_port, self.status_port = (free_port() for _ in range(3))
        self.status_port = int((settings or {}).get("TRIMTAB_STATUS_PORT", self.status_port))
        self._command = [sys.executable, *module, "run"]
        self.tls_directory = tempfile.mkdtemp(prefix="trimtab-tls-")
        self._settings = settings or {}
        self.host = self._settings.get("TRIMTAB_BIND_ADDRESS", "127.0.0.1")
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
        environment = {
            **os.environ,
            "PYTHONPATH": f"{REPOSITORY / 'operator'}:{REPOSITORY / 'trainer_image'}",
            "TRIMTAB_LEADER_ELECTION": "false",
            "TRIMTAB_TLS_DIRECTORY": self.tls_directory,
            "TRIMTAB_STATUS_URL": f"https://localhost:{self.status_port}",
            "TRIMTAB_STATUS_PORT": str(self.status_port),
            "TRIMTAB_PROBE_PORT": str(self.probe_port),
            "TRIMTAB_METRICS_PORT": str(self.metrics_port),
            "TRIMTAB_BIND_ADDRESS": self.host,
            **self._settings,
        }
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._command, env=environment, stdout=log, stderr=log)

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
        shutil.rmtree(self.tls_directory, ignore_errors=True)

    def wait_ready(self, timeout: float = 60.0) -> float:
        """Seconds until /readyz said ok."""
        started = time.monotonic()
        while time.monotonic() - started < timeout:
            if self.exit_code() is not None:
                break
            if self._get(self.probe_port, "readyz") == "ok":
                return time.monotonic() - started
            time.sleep(0.02)
        raise TimeoutError(f"the operator did not become ready; see {self.log}\n{self.log.read_text()[-2000:]}")

    def memory_mib(self) -> tuple[float, float]:
        """Resident memory now and at its highest."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        now, peak = (int(re.search(rf"{name}:\s+(\d+)", status)[1]) / 1024 for name in ("VmRSS", "VmHWM"))  # type: ignore[index]
        return round(now, 1), round(peak, 1)

    def cpu_seconds(self) -> float:
        """Processor time used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def metrics(self) -> dict[str, float]:
        """Every sample of /metrics."""
        text = self._get(self.metrics_port, "metrics") or ""
        return {
            name: float(value)
            for line in text.splitlines()
            if line and line[0] != "#"
            for name, _, value in [line.rpartition(" ")]
        }

    def writes(self) -> dict[str, int]:
        """Requests of the operator that write, by verb and resource, since its start."""
        found: dict[str, int] = {}
        for sample, value in self.metrics().items():
            labels = dict(re.findall(r'(\w+)="([^"]*)"', sample))
            if sample.startswith("trimtab_api_requests_total") and labels["verb"] not in _READS:
                name = f"{labels['verb']} {labels['resource']}"
                found[name] = found.get(name, 0) + int(value)
        return found

    def settled(self) -> bool:
        """Whether nothing waits for a worker."""
        return self.metrics().get("trimtab_queue_depth") == 0

    def _get(self, port: int, path: str) -> str | None:
        try:
            with urllib.request.urlopen(f"http://{self.host}:{port}/{path}", timeout=5) as response:
                return str(response.read().decode())
        except (urllib.error.URLError, OSError):
            return None


def free_port() -> int:
    """A port of loopback that nobody uses now."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])
