"""The operator as a local process: start, look, kill."""

import re
import shutil
import socket
import sys
import tempfile
from pathlib import Path

from tests.support.local_process import LocalProcess

REPOSITORY = Path(__file__).resolve().parents[2]
_READS = {"GET", "LIST"}
# As in the operator's image, which has no `kubernetes`: where tests have installed it for themselves, Kopf imports it, and
# the process is 70 MiB larger and a second later than the operator is.
_WITHOUT_KUBERNETES = """
import runpy, sys
sys.modules["kubernetes"] = None
del sys.argv[0]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


class OperatorProcess(LocalProcess):
    """`python -m trimtab_operator run` against KUBECONFIG, without leader election, with a certificate of its own."""

    def __init__(
        self, *, log: Path, module: tuple[str, ...] = ("-m", "trimtab_operator"), settings: dict[str, str] | None = None
    ) -> None:
        given = settings or {}
        self.probe_port, self.metrics_port, self.status_port = (free_port() for _ in range(3))
        self.status_port = int(given.get("TRIMTAB_STATUS_PORT", self.status_port))
        self.tls_directory = tempfile.mkdtemp(prefix="trimtab-tls-")
        host = given.get("TRIMTAB_BIND_ADDRESS", "127.0.0.1")
        environment = {
            "PYTHONPATH": f"{REPOSITORY / 'operator'}:{REPOSITORY / 'trainer_image'}",
            "TRIMTAB_LEADER_ELECTION": "false",
            "TRIMTAB_TLS_DIRECTORY": self.tls_directory,
            "TRIMTAB_STATUS_URL": f"https://localhost:{self.status_port}",
            "TRIMTAB_STATUS_PORT": str(self.status_port),
            "TRIMTAB_PROBE_PORT": str(self.probe_port),
            "TRIMTAB_METRICS_PORT": str(self.metrics_port),
            "TRIMTAB_BIND_ADDRESS": host,
            **given,
        }
        program = ("-c", _WITHOUT_KUBERNETES, *module[1:]) if module[0] == "-m" else module
        super().__init__([sys.executable, *program, "run"], log=log, environment=environment, host=host)

    def stop(self) -> None:
        """End it in good order, and forget its certificate."""
        super().stop()
        shutil.rmtree(self.tls_directory, ignore_errors=True)

    def is_ready(self) -> bool:
        """Whether /readyz says ok."""
        return self.get(self.probe_port, "readyz") == "ok"

    def metrics(self) -> dict[str, float]:
        """Every sample of /metrics."""
        text = self.get(self.metrics_port, "metrics") or ""
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


def free_port() -> int:
    """A port of loopback that nobody uses now."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])
