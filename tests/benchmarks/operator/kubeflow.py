"""The peer: Kubeflow Trainer's controller manager and JobSet's, built from their Go modules and run as local processes.

From a TrainJob Trainer's controller makes a JobSet, and from that JobSet's controller makes a Job (jobset.py). Both get what their
own manifests give them, and their own defaults (the limits of their clients' requests among them: Trainer's 20 a second for a kind,
JobSet's 500). Two things favour them: Trainer's validating webhook for TrainJobs is not registered, and neither runs with leader
election.
"""

import base64
import contextlib
import copy
import json
import re
import shutil
import subprocess
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import go_module
import jobset
import kubectl
import yaml
from jobset import JobSetController
from load import Manifest
from tests.support.local_process import LocalProcess
from tests.support.operator_process import free_port

MODULE = "github.com/kubeflow/trainer/v2"
VERSION = "v2.0.0"
NAMESPACE = "kubeflow-system"
_RUNTIME = "torch-distributed"
_RUNTIME_WITHOUT_PODS = f"{_RUNTIME}-without-pods"
_SECRET = "kubeflow-trainer-webhook-cert"
_CERTIFICATES = Path("/tmp/k8s-webhook-server/serving-certs")
"""Fixed in its source."""


def build() -> Path:
    """Its controller manager and JobSet's, compiled once."""
    jobset.build(jobset_version())
    return go_module.program(
        "trainer-controller-manager",
        go_module.source(MODULE, VERSION),
        "./cmd/trainer-controller-manager",
        folder=f"kubeflow-trainer-{VERSION}",
    )


def jobset_version() -> str:
    """The version of JobSet that it is made for."""
    found = re.search(rf"{re.escape(jobset.MODULE)} (v\S+)", (go_module.source(MODULE, VERSION) / "go.mod").read_text())
    assert found is not None
    return found[1]


def install() -> None:
    """Its CRDs and JobSet's, its runtime for torch, and what its certificates need."""
    source = go_module.source(MODULE, VERSION)
    crds = sorted((source / "manifests/base/crds").glob("trainer.*.yaml"))
    for file in (*crds, jobset.crd(jobset_version())):
        kubectl.apply_text(file.read_bytes())
    kinds = ("trainjobs", "trainingruntimes", "clustertrainingruntimes")
    kubectl.until_established(*(f"{kind}.trainer.kubeflow.org" for kind in kinds), "jobsets.jobset.x-k8s.io")
    runtime = yaml.safe_load((source / "manifests/base/runtimes/torch_distributed.yaml").read_text())
    kubectl.apply(runtime, _without_pods(runtime))
    namespaced = {"namespace": NAMESPACE}
    kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    kubectl.apply(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": _SECRET, **namespaced}},
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": "validator.trainer.kubeflow.org"},
        },
    )


def _without_pods(runtime: Manifest) -> Manifest:
    """A runtime whose Jobs belong to nobody, so that they stay as they are without being suspended."""
    changed = copy.deepcopy(runtime)
    changed["metadata"]["name"] = _RUNTIME_WITHOUT_PODS
    for replicated in changed["spec"]["template"]["spec"]["replicatedJobs"]:
        replicated["template"]["spec"]["managedBy"] = "trimtab.dev/nobody"
    return changed


def train_job(namespace: str, name: str, *, suspend: bool) -> Manifest:
    """A job from which a JobSet and a Job are made. No pods either way: the Job is suspended, or belongs to nobody."""
    return {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "runtimeRef": {"name": _RUNTIME if suspend else _RUNTIME_WITHOUT_PODS},
            "suspend": suspend,
            "trainer": {
                "image": "trainer",
                "command": ["torchrun", "train.py"],
                "args": ["--model=smollm2-135m-instruct", "--lora-r=16", "--lora-alpha=32", f"--output={name}"],
                "resourcesPerNode": {
                    "requests": {"cpu": "100m", "memory": "128Mi"},
                    "limits": {"memory": "256Mi"},
                },
            },
        },
    }


class KubeflowTrainer:
    """An installation: both controller managers."""

    def __init__(self, program: Path, *, log: Path) -> None:
        self._processes = (JobSetController(jobset_version(), log=log), TrainerController(program, log=log))
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            for process in self._processes:
                stack.enter_context(process)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def wait_ready(self, timeout: float = 60.0) -> float:
        """Seconds until both were ready."""
        return sum(process.wait_ready(timeout) for process in self._processes)

    def memory_mib(self) -> tuple[float, float]:
        """Resident memory of both, now and each at its highest."""
        now, peak = zip(*(process.memory_mib() for process in self._processes), strict=True)
        return sum(now), sum(peak)

    def cpu_seconds(self) -> float:
        """Processor time of both so far."""
        return sum(process.cpu_seconds() for process in self._processes)


class TrainerController(LocalProcess):
    """The controller manager against KUBECONFIG, with no flags but its ports."""

    def __init__(self, program: Path, *, log: Path) -> None:
        self._probe_port = free_port()
        command = [
            str(program),
            f"--health-probe-bind-address=127.0.0.1:{self._probe_port}",
            f"--webhook-server-port={free_port()}",
        ]
        super().__init__(command, log=log, environment={})

    def start(self) -> None:
        """Start; its certificates appear where a kubelet would put them."""
        super().start()
        threading.Thread(target=self._mount_certificates, daemon=True).start()

    def stop(self) -> None:
        """End it in good order."""
        super().stop()
        shutil.rmtree(_CERTIFICATES, ignore_errors=True)

    def is_ready(self) -> bool:
        """Whether its webhook server runs, which starts after its certificates are there."""
        return self.get(self._probe_port, "readyz") == "ok"

    def _mount_certificates(self) -> None:
        command = ["kubectl", "-n", NAMESPACE, "get", "secret", _SECRET, "-o", "json"]
        while self.exit_code() is None:
            answer = subprocess.run(command, check=True, capture_output=True)
            if data := json.loads(answer.stdout).get("data"):
                _CERTIFICATES.mkdir(parents=True, exist_ok=True)
                for name, content in data.items():
                    (_CERTIFICATES / name).write_bytes(base64.b64decode(content))
                return
            time.sleep(0.2)
