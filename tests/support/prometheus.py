"""A real Prometheus on this machine, and something for it to scrape."""

import json
import shutil
import subprocess
import sys
import urllib.parse
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tests.support.local_process import LocalProcess
from tests.support.operator_process import free_port

ROOT = Path(__file__).parents[2]
_CONFIG = """
global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}
scrape_configs: [{{job_name: servers, static_configs: [{{targets: ["127.0.0.1:{port}"]}}]}}]
"""


@cache
def program() -> str:
    """Its path: the machine's own, else Debian's, fetched the first time."""
    if shutil.which("prometheus") is None and shutil.which("apt-get") is None:
        pytest.skip("there is no prometheus on PATH, and no apt-get to fetch it with")
    command = [sys.executable, "-B", str(ROOT / "dev" / "local" / "main.py"), "prometheus"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


class Prometheus(LocalProcess):
    """Scrapes one port five times a second; forgets nothing when it is started again."""

    def __init__(self, directory: Path, scraped_port: int) -> None:
        self.port = free_port()
        config = directory / "prometheus.yaml"
        config.write_text(_CONFIG.format(port=scraped_port))
        command = [
            program(),
            f"--config.file={config}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]
        super().__init__(command, log=directory / "prometheus.log", environment={})

    @property
    def address(self) -> str:
        """What a rollout names."""
        return f"http://127.0.0.1:{self.port}"

    def is_ready(self) -> bool:
        """It has read its data and answers."""
        return self.get(self.port, "-/ready") is not None

    def values(self, query: str) -> dict[str, float]:
        """Values by the label `version`."""
        text = self.get(self.port, f"api/v1/query?{urllib.parse.urlencode({'query': query})}")
        found: list[Any] = json.loads(text)["data"]["result"] if text else []
        return {each["metric"].get("version", ""): float(each["value"][1]) for each in found}
