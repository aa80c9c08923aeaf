"""The process that a pod runs: its signals, its exit code, its last words."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from tests.support.object_store import make_store
from tests.support.serving import make_config, publish, put_base, save_models, served

from trimtab_trainer.contract.exit_codes import ExitCode
from trimtab_trainer.contract.run_config import ServerConfig
from trimtab_trainer.store.object_store import ObjectStore

PROGRAM = """
import os
import sys
from pathlib import Path
from trimtab_trainer.contract import mounts
mounts.SERVER_PORT, mounts.CREDENTIALS_DIRECTORY = int(sys.argv[1]), Path(sys.argv[2])
from trimtab_trainer.server.__main__ import main
os._exit(main())
"""
START_SECONDS = 180
"""Importing torch and transformers takes ten seconds on an idle machine."""


@contextmanager
def started(config: ServerConfig, directory: Path, credentials: Path, port: int) -> Iterator["subprocess.Popen[str]"]:
    directory.mkdir()
    (directory / "config.json").write_text(config.model_dump_json(by_alias=True))
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "TRIMTAB_SERVER_CONFIG_FILE": str(directory / "config.json"),
        "TRIMTAB_SCRATCH_DIRECTORY": str(directory / "scratch"),
        "TRIMTAB_TERMINATION_MESSAGE_FILE": str(directory / "termination"),
    }
    command = [sys.executable, "-c", PROGRAM, str(port), str(credentials)]
    process = subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_until_alive(url: str, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(url + "/healthz").json() == {"alive": True}:
                return
        except httpx.TransportError:
            time.sleep(0.02)
    pytest.fail("never alive")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def wait_until_ready(url: str, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(url + "/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    pytest.fail(f"not ready: {process.communicate(timeout=1)[0] if process.poll() is not None else 'too slow'}")


def test_the_process(store: ObjectStore, s3_endpoint: str, credentials: Path, tmp_path: Path) -> None:
    folders = save_models(tmp_path / "models")
    put_base(store, folders["base"])
    version = publish(store, folders["tone-v1"], 1)
    config = make_config(version, store=make_store(s3_endpoint).to_json(), terminationGraceSeconds=20)
    tampered = config.model_copy(update={"versions": [version.model_copy(update={"manifest_sha256": "0" * 64})]})
    port = free_port()
    with (
        started(config, tmp_path / "good", credentials, port) as good,
        started(tampered, tmp_path / "bad", credentials, free_port()) as bad,
    ):
        url = f"http://127.0.0.1:{port}"
        wait_until_ready(url, good)
        body = {
            "model": "tone",
            "messages": [{"role": "user", "content": "My secret"}],
            "max_tokens": 4,
            "temperature": 0,
        }
        answer = httpx.post(url + "/v1/chat/completions", json=body, timeout=30)
        assert answer.json()["usage"]["completion_tokens"] == 4
        good.send_signal(signal.SIGTERM)
        log, _ = good.communicate(timeout=60)
        assert good.returncode == 0, log
        assert "request_ended endpoint=chat version=tone-v1 status=200 prompt_tokens=" in log
        assert "secret" not in log
        log, _ = bad.communicate(timeout=START_SECONDS)
        assert bad.returncode == ExitCode.DIGEST_MISMATCH, log
        last_words = json.loads((tmp_path / "bad" / "termination").read_text())
        assert last_words["reason"] == "DigestMismatch"
        assert "manifestSha256" in last_words["message"]


def test_sigterm_during_the_start_ends_it_at_once(tmp_path: Path) -> None:
    port = free_port()
    with started(make_config(served("tone-v1")), tmp_path / "new", tmp_path, port) as process:
        wait_until_alive(f"http://127.0.0.1:{port}", process)
        process.send_signal(signal.SIGTERM)
        log, _ = process.communicate(timeout=30)
        assert process.returncode == 0, log
