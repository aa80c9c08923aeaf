"""A control plane of a test's own: etcd and kube-apiserver on loopback, optionally the Job and garbage controllers.

What runs the operator itself must not share a cluster with another Trimtab, and wants to stop the API server now and then.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import yaml

TOKEN = "admin-of-a-test"
_CONTROLLERS = "job-controller,garbage-collector-controller,namespace-controller,serviceaccount-controller"
MANY_JOBS = ("--kube-api-qps=500", "--kube-api-burst=1000", "--concurrent-job-syncs=50")
"""Arguments for the controllers: with their defaults (20 requests a second, 5 Jobs at once) they hold whole jobs back."""
_AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}


def missing() -> str:
    """Why there can be none here; empty when there can."""
    if shutil.which("etcd") is None:
        return "no etcd on PATH: run `make up` once"
    return "" if _binary("kube-apiserver") is not None else "no kube-apiserver beside kubectl: run `make up` once"


class ControlPlane:
    """Starts in about 5 s; nothing is left when it ends."""

    def __init__(self, *, controllers: Sequence[str] | None = None) -> None:
        """`controllers`: arguments of their program beside those that it needs; None: they do not run."""
        # In memory where possible: what is measured is the operator, not a disk.
        parent = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.directory = Path(tempfile.mkdtemp(prefix="trimtab-control-plane-", dir=parent))
        self.kubeconfig = self.directory / "kubeconfig"
        self.audit_log = self.directory / "audit.log"
        self.port = _free_port()
        self._etcd = f"http://127.0.0.1:{_free_port()}"
        self._etcd_peer = f"http://127.0.0.1:{_free_port()}"
        self._controllers = controllers
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        try:
            self._prepare()
            self._start_etcd()
            self.start_api_server()
            if self._controllers is not None:
                self.start_controllers(self._controllers)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def start_api_server(self) -> None:
        """Start the API server and wait until it is ready."""
        pki = self.directory
        self._start(
            "kube-apiserver",
            f"--etcd-servers={self._etcd}",
            f"--secure-port={self.port}",
            "--bind-address=127.0.0.1",
            f"--tls-cert-file={pki / 'tls.crt'}",
            f"--tls-private-key-file={pki / 'tls.key'}",
            f"--token-auth-file={pki / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            f"--service-account-key-file={pki / 'accounts.key'}",
            f"--service-account-signing-key-file={pki / 'accounts.key'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-cluster-ip-range=10.0.0.0/24",
            f"--audit-policy-file={pki / 'audit.json'}",
            f"--audit-log-path={self.audit_log}",
            "--audit-log-mode=batch",
            "--endpoint-reconciler-type=none",
        )
        deadline = time.monotonic() + 60
        while not self._ready():
            if time.monotonic() > deadline or self._processes["kube-apiserver"].poll() is not None:
                raise TimeoutError(f"kube-apiserver did not start:\n{self.log('kube-apiserver')[-3000:]}")
            time.sleep(0.1)

    def stop_api_server(self) -> None:
        """End the API server; etcd keeps what it knows."""
        self._stop("kube-apiserver")

    def log(self, name: str) -> str:
        """What a component said."""
        return (self.directory / f"{name}.log").read_text(errors="replace")

    def pids(self) -> dict[str, int]:
        """Process ids by component."""
        return {name: process.pid for name, process in self._processes.items()}

    def _prepare(self) -> None:
        directory = self.directory
        for command in (
            ("openssl", "genrsa", "-out", "accounts.key", "2048"),
            (
                "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test",
                "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "tls.key", "-out", "tls.crt",
            ),
        ):  # fmt: skip
            subprocess.run(command, cwd=directory, check=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        (directory / "tokens.csv").write_text(f'{TOKEN},admin,admin,"system:masters"\n')
        (directory / "audit.json").write_text(json.dumps(_AUDIT_POLICY))
        self.kubeconfig.write_text(yaml.safe_dump(self.config(f"https://127.0.0.1:{self.port}")))

    def config(self, server: str) -> dict[str, object]:
        """A kubeconfig for this API server at an address (its own, or a proxy's)."""
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [
                {
                    "name": "test",
                    "cluster": {"server": server, "certificate-authority": str(self.directory / "tls.crt")},
                }
            ],
            "users": [{"name": "test", "user": {"token": TOKEN}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        }

    def _start_etcd(self) -> None:
        self._start(
            "etcd",
            f"--data-dir={self.directory / 'etcd'}",
            f"--listen-client-urls={self._etcd}",
            f"--advertise-client-urls={self._etcd}",
            f"--listen-peer-urls={self._etcd_peer}",
            f"--initial-advertise-peer-urls={self._etcd_peer}",
            f"--initial-cluster=default={self._etcd_peer}",
        )

    def start_controllers(self, arguments: Sequence[str]) -> None:
        """Start the controllers, or start them anew with other arguments."""
        self._stop("kube-controller-manager")
        self._start(
            "kube-controller-manager",
            f"--kubeconfig={self.kubeconfig}",
            f"--controllers={_CONTROLLERS}",
            "--leader-elect=false",
            "--secure-port=0",
            f"--service-account-private-key-file={self.directory / 'accounts.key'}",
            *arguments,
        )

    def _start(self, name: str, *arguments: str) -> None:
        program = shutil.which("etcd") if name == "etcd" else _binary(name)
        assert program is not None, missing()
        with (self.directory / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen([program, *arguments], stdout=log, stderr=log, cwd=self.directory)

    def _stop(self, name: str) -> None:
        process = self._processes.pop(name, None)
        if process is not None:
            process.send_signal(signal.SIGKILL)
            process.wait()

    def _end(self) -> None:
        for name in ("kube-controller-manager", "kube-apiserver", "etcd"):
            self._stop(name)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _ready(self) -> bool:
        context = ssl.create_default_context(cafile=self.directory / "tls.crt")
        with contextlib.suppress(urllib.error.URLError, OSError):
            request = urllib.request.Request(
                f"https://127.0.0.1:{self.port}/readyz", headers={"Authorization": f"Bearer {TOKEN}"}
            )
            with urllib.request.urlopen(request, context=context, timeout=2) as answer:
                return bool(answer.status == 200)
        return False


def _binary(name: str) -> str | None:
    """On PATH, or one of the names of the program that kubectl is."""
    found = shutil.which(name)
    kubectl = shutil.which("kubectl")
    beside = Path(kubectl).resolve().parent / name if kubectl else None
    return found or (str(beside) if beside is not None and beside.exists() else None)


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])
