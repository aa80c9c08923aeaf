"""JobSet's controller manager, which makes Jobs from JobSets: a part of every installation of Kubeflow Trainer.

It runs with its own defaults (500 requests a second among them) and the log level of its manifests. Its webhooks for JobSets are
registered, as its controller relies on what they fill in; those for pods are not, as there are no pods. What its configuration
says besides are addresses, a certificate made here instead of by itself, and that it runs without leader election.
"""

import base64
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import go_module
import kubectl
import yaml
from load import Manifest
from tests.support.local_process import LocalProcess
from tests.support.operator_process import free_port

MODULE = "sigs.k8s.io/jobset"
_WEBHOOKS = {"mjobset.kb.io", "vjobset.kb.io"}


def build(version: str) -> Path:
    """Its controller manager, compiled once."""
    return go_module.program("jobset", go_module.source(MODULE, version), folder=f"jobset-{version}")


def crd(version: str) -> Path:
    """The definition of JobSets."""
    return go_module.source(MODULE, version) / "config/components/crd/bases/jobset.x-k8s.io_jobsets.yaml"


class JobSetController(LocalProcess):
    """The controller manager against KUBECONFIG, with webhooks that the API server of this machine reaches."""

    def __init__(self, version: str, *, log: Path) -> None:
        self._version = version
        self._directory = Path(tempfile.mkdtemp(prefix="trimtab-jobset-"))
        self._probe_port, self._webhook_port = free_port(), free_port()
        command = [str(build(version)), f"--config={self._directory / 'configuration.json'}", "--zap-log-level=2"]
        super().__init__(command, log=log, environment={})

    def start(self) -> None:
        """Start; its webhooks are called from now on."""
        configuration = {
            "apiVersion": "config.jobset.x-k8s.io/v1alpha1",
            "kind": "Configuration",
            "internalCertManagement": {"enable": False},
            "leaderElection": {"leaderElect": False},
            "metrics": {"bindAddress": "0"},
            "health": {"healthProbeBindAddress": f"127.0.0.1:{self._probe_port}"},
            "webhook": {"host": "127.0.0.1", "port": self._webhook_port, "certDir": str(self._directory)},
        }
        (self._directory / "configuration.json").write_text(json.dumps(configuration))
        self._make_certificate()
        kubectl.apply(*self._webhook_configurations())
        super().start()

    def stop(self) -> None:
        """End it in good order; nobody waits for its webhooks any more."""
        super().stop()
        for configuration in self._webhook_configurations():
            kubectl.delete(configuration["kind"], configuration["metadata"]["name"])
        shutil.rmtree(self._directory, ignore_errors=True)

    def is_ready(self) -> bool:
        """Whether its webhook server runs."""
        return self.get(self._probe_port, "readyz") == "ok"

    def _make_certificate(self) -> None:
        command = [
            "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=jobset",
            "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "tls.key", "-out", "tls.crt",
        ]  # fmt: skip
        subprocess.run(command, cwd=self._directory, check=True, stderr=subprocess.DEVNULL)

    def _webhook_configurations(self) -> list[Manifest]:
        """Those of its manifests that are about JobSets, with this process instead of a Service."""
        manifests = go_module.source(MODULE, self._version) / "config/components/webhook/manifests.yaml"
        configurations: list[Manifest] = list(yaml.safe_load_all(manifests.read_text()))
        authority = base64.b64encode((self._directory / "tls.crt").read_bytes()).decode()
        for configuration in configurations:
            # The prefix that its kustomization gives them.
            configuration["metadata"]["name"] = f"jobset-{configuration['metadata']['name']}"
            configuration["webhooks"] = [one for one in configuration["webhooks"] if one["name"] in _WEBHOOKS]
            for webhook in configuration["webhooks"]:
                path = webhook["clientConfig"]["service"]["path"]
                webhook["clientConfig"] = {
                    "url": f"https://127.0.0.1:{self._webhook_port}{path}",
                    "caBundle": authority,
                }
        return configurations
