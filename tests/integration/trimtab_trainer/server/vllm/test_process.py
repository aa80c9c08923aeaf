"""Both containers of a pod as processes, with the commands of the golden manifest: the start, an answer, the end."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml
from tests.integration.trimtab_trainer.server.test_process import free_port, wait_until_ready
from tests.support.manifests import GOLDEN
from tests.support.object_store import make_store
from tests.support.serving import make_config, publish, put_base, save_models

from trimtab_trainer.contract import mounts
from trimtab_trainer.contract.run_config import ServerConfig
from trimtab_trainer.store.object_store import ObjectStore

Process = subprocess.Popen[str]
ROUTER = """
import os
import sys
from pathlib import Path
from trimtab_trainer.contract import mounts
mounts.SERVER_PORT, mounts.VLLM_PORT, mounts.CREDENTIALS_DIRECTORY = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
mounts.MODELS_DIRECTORY = Path(sys.argv[4])
mounts.VLLM_BASE_MODEL, mounts.VLLM_DRAINED_FILE = mounts.MODELS_DIRECTORY / "base-model", mounts.MODELS_DIRECTORY / "drained"
from trimtab_trainer.server.vllm.__main__ import main
os._exit(main())
"""


class Pod:
    """A pod's two containers in folders of a test."""

    def __init__(self, directory: Path, credentials: Path) -> None:
        self.directory, self._credentials = directory, credentials
        self.models = directory / "models"
        self.models.mkdir()
        self.port, self.vllm_port = free_port(), free_port()
        children = yaml.safe_load_all((GOLDEN / "rollout-vllm" / "expected.yaml").read_text())
        (deployment,) = [child for child in children if child["kind"] == "Deployment"]
        containers = deployment["spec"]["template"]["spec"]["containers"]
        (self.vllm,) = [each for each in containers if each["name"] == "vllm"]

    def here(self, command: list[str]) -> list[str]:
        """A command of the manifest with this test's folder and port."""
        moved = [word.replace(str(mounts.MODELS_DIRECTORY) + "/", f"{self.models}/") for word in command]
        return [word.replace(str(mounts.VLLM_PORT), str(self.vllm_port)) for word in moved]

    def start_vllm(self) -> Process:
        """The command of the container `vllm`; the stand-in takes vLLM's place on PATH."""
        programs = self.directory / "bin"
        programs.mkdir()
        program = programs / "vllm"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m tests.support.vllm_stand_in "$@"\n')
        program.chmod(0o755)
        path = f"{programs}:{os.environ['PATH']}"
        return _started(self.here(self.vllm["command"]), {"PATH": path})

    def start_router(self, config: ServerConfig) -> Process:
        """The command of the container `server`, with other ports and folders."""
        (self.directory / "config.json").write_text(config.model_dump_json(by_alias=True))
        arguments = [str(self.port), str(self.vllm_port), str(self._credentials), str(self.models)]
        environment = {
            "TRIMTAB_SERVER_CONFIG_FILE": str(self.directory / "config.json"),
            "TRIMTAB_SCRATCH_DIRECTORY": str(self.directory / "scratch"),
            "TRIMTAB_TERMINATION_MESSAGE_FILE": str(self.directory / "termination"),
        }
        return _started([sys.executable, "-c", ROUTER, *arguments], environment)

    def runs(self, *place: str) -> bool:
        """Whether a probe of the manifest says yes."""
        probe: Any = self.vllm
        for key in place:
            probe = probe[key]
        return subprocess.run(self.here(probe["exec"]["command"]), check=False, capture_output=True).returncode == 0


def _started(command: list[str], environment: dict[str, str]) -> Process:
    everything = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment}
    return subprocess.Popen(command, env=everything, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


@contextmanager
def ended(*processes: Process) -> Iterator[None]:
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def test_both_containers(store: ObjectStore, s3_endpoint: str, credentials: Path, tmp_path: Path) -> None:
    folders = save_models(tmp_path / "saved")
    put_base(store, folders["base"])
    version = publish(store, folders["tone-v1"], 1)
    config = make_config(version, store=make_store(s3_endpoint).to_json(), terminationGraceSeconds=20)
    pod = Pod(tmp_path, credentials)
    vllm = pod.start_vllm()
    with ended(vllm):
        assert not pod.runs("startupProbe"), "it waits for the base model"
        router = pod.start_router(config)
        with ended(router):
            url = f"http://127.0.0.1:{pod.port}"
            wait_until_ready(url, router)
            assert pod.runs("livenessProbe")
            body = {"model": "tone", "messages": [{"role": "user", "content": "My secret"}]}
            answer = httpx.post(url + "/v1/chat/completions", json=body, timeout=30)
            assert (answer.status_code, answer.json()["model"]) == (200, "tone-v1")
            assert httpx.get(url + "/readyz").json()["versions"][0]["state"] == "Ready"

            # Both are told to end at once: vLLM's preStop comes first there.
            router.send_signal(signal.SIGTERM)
            assert pod.runs("lifecycle", "preStop"), "it returns when the router has ended"
            log, _ = router.communicate(timeout=30)
            assert router.returncode == 0, log
            assert "request_ended endpoint=chat version=tone-v1 status=200" in log
            assert "secret" not in log
        vllm.send_signal(signal.SIGTERM)
        vllm.communicate(timeout=20)


def test_vllm_ends_at_once_while_it_waits_for_the_base_model(tmp_path: Path) -> None:
    pod = Pod(tmp_path, tmp_path)
    vllm = pod.start_vllm()
    with ended(vllm):
        vllm.send_signal(signal.SIGTERM)
        vllm.communicate(timeout=10)
        assert vllm.returncode in (0, -signal.SIGTERM)
