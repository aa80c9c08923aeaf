"""The peer: Kubeflow Trainer's controller manager, built from its Go module and run as a local process.

What it gets is what its own manifests give it, and its own defaults (its client's limit of requests a second among them). Three
things favour it: its validating webhook for TrainJobs is not registered, so no object waits for one; the controller that
would make Jobs and pods from JobSets is not there; and it runs without leader election.
"""

import base64
import json
import os
import re
import shutil
import subprocess
import threading
import time
from pathlib import Path

import kubectl
from load import Manifest
from tests.support.local_process import LocalProcess
from tests.support.operator_process import free_port

MODULE = "github.com/kubeflow/trainer/v2"
VERSION = "v2.0.0"
NAMESPACE = "kubeflow-system"
_RUNTIME = "torch-distributed"
_SECRET = "kubeflow-trainer-webhook-cert"
_CERTIFICATES = Path("/tmp/k8s-webhook-server/serving-certs")
"""Fixed in its source."""
_CACHE = Path(os.environ.get("TRIMTAB_CACHE", Path.home() / ".cache" / "trimtab")) / "peers"


def build() -> Path:
    """Its controller manager, compiled once (4 minutes on two cores)."""
    program = _CACHE / f"kubeflow-trainer-{VERSION}" / "trainer-controller-manager"
    if not program.exists():
        program.parent.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "GOBIN": str(program.parent), "GOFLAGS": "-buildvcs=false"}
        command = ["go", "install", f"{MODULE}/cmd/trainer-controller-manager@{VERSION}"]
        subprocess.run(command, env=environment, cwd="/", check=True)
    return program


def install() -> None:
    """Its CRDs and JobSet's, its runtime for torch, and what its certificates need."""
    source = _source(MODULE, VERSION)
    jobset = re.search(r"sigs\.k8s\.io/jobset (v\S+)", (source / "go.mod").read_text())
    assert jobset is not None
    crds = _source("sigs.k8s.io/jobset", jobset[1]) / "config/components/crd/bases/jobset.x-k8s.io_jobsets.yaml"
    for file in (*sorted((source / "manifests/base/crds").glob("trainer.*.yaml")), crds):
        kubectl.apply_text(file.read_bytes())
    kinds = ("trainjobs", "trainingruntimes", "clustertrainingruntimes")
    kubectl.until_established(*(f"{kind}.trainer.kubeflow.org" for kind in kinds), "jobsets.jobset.x-k8s.io")
    kubectl.apply_text((source / "manifests/base/runtimes/torch_distributed.yaml").read_bytes())
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


def train_job(namespace: str, name: str, *, suspend: bool) -> Manifest:
    """A job from which a JobSet is made. A suspended one costs it a status write and a second apply of the JobSet besides."""
    return {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "runtimeRef": {"name": _RUNTIME},
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


class KubeflowTrainer(LocalProcess):
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


def _source(module: str, version: str) -> Path:
    """Where Go keeps a module's files, which its zip brings: manifests among them."""
    command = ["go", "mod", "download", "-json", f"{module}@{version}"]
    answer = subprocess.run(command, cwd="/", check=True, capture_output=True)
    return Path(json.loads(answer.stdout)["Dir"])
