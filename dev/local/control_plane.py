"""etcd, API server, controller manager and scheduler."""

import json
import ssl
import urllib.error
import urllib.request
from pathlib import Path

import mounts
import processes
from certificates import DIRECTORY, path
from network import Addresses, inside
from paths import LOGS, RUNTIME, STATE, write
from progress import run

ETCD_DATA = RUNTIME / "etcd"
AUDIT_LOG = LOGS / "audit.log"
_ETCD = "http://127.0.0.1:2379"

# Metadata of every request, once and when it is done: the operator's benchmark counts API writes with it.
_AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}


def up(addresses: Addresses, binaries: Path) -> None:
    """Start what does not run, in order, and wait until the API answers."""
    if _etcd():
        # An API server whose etcd was replaced hangs in dead connections for a minute; a new one takes 5 s.
        processes.stop("kube-apiserver", patience=2)
    _api_server(addresses, binaries)
    processes.ensure("kube-controller-manager", inside(binaries / "kube-controller-manager", *_controller_manager()))
    processes.ensure(
        "kube-scheduler",
        inside(
            binaries / "kube-scheduler",
            f"--kubeconfig={STATE / 'scheduler.kubeconfig'}",
            "--leader-elect=false",
            f"--authentication-kubeconfig={STATE / 'scheduler.kubeconfig'}",
            f"--authorization-kubeconfig={STATE / 'scheduler.kubeconfig'}",
            "--bind-address=127.0.0.1",
            "--kube-api-qps=200",
            "--kube-api-burst=400",
        ),
    )


def _etcd() -> bool:
    """Start etcd unless it runs; True when it was started."""
    # In memory: a development cluster gains nothing from waiting for a disk on each write, and ends with `make down`.
    if not mounts.is_mounted(ETCD_DATA):
        ETCD_DATA.mkdir(parents=True, exist_ok=True)
        run(["mount", "-t", "tmpfs", "-o", "size=4g,mode=0700", "trimtab-etcd", ETCD_DATA], log="etcd")
    return processes.ensure(
        "etcd",
        inside(
            "etcd",
            "--name=trimtab",
            f"--data-dir={ETCD_DATA / 'data'}",
            f"--listen-client-urls={_ETCD}",
            f"--advertise-client-urls={_ETCD}",
            "--listen-peer-urls=http://127.0.0.1:2380",
            "--initial-advertise-peer-urls=http://127.0.0.1:2380",
            "--initial-cluster=trimtab=http://127.0.0.1:2380",
            "--quota-backend-bytes=3221225472",
            "--auto-compaction-retention=30m",
            "--snapshot-count=10000",
            "--log-level=warn",
            "--logger=zap",
        ),
    )


def _api_server(addresses: Addresses, binaries: Path) -> None:
    policy = write(STATE / "audit-policy.json", json.dumps(_AUDIT_POLICY))
    processes.ensure(
        "kube-apiserver",
        inside(
            binaries / "kube-apiserver",
            f"--etcd-servers={_ETCD}",
            f"--advertise-address={addresses.node}",
            "--bind-address=0.0.0.0",
            f"--service-cluster-ip-range={addresses.services}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            f"--client-ca-file={path('ca.crt')}",
            f"--tls-cert-file={path('apiserver.crt')}",
            f"--tls-private-key-file={path('apiserver.key')}",
            f"--service-account-key-file={path('service-accounts.pub')}",
            f"--service-account-signing-key-file={path('service-accounts.key')}",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            # Logs and exec: by address, since no DNS knows the node's name, and with certificates both ways.
            "--kubelet-preferred-address-types=InternalIP",
            f"--kubelet-certificate-authority={path('ca.crt')}",
            f"--kubelet-client-certificate={path('apiserver-kubelet-client.crt')}",
            f"--kubelet-client-key={path('apiserver-kubelet-client.key')}",
            f"--requestheader-client-ca-file={path('front-proxy-ca.crt')}",
            "--requestheader-allowed-names=front-proxy-client",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            f"--proxy-client-cert-file={path('front-proxy-client.crt')}",
            f"--proxy-client-key-file={path('front-proxy-client.key')}",
            f"--audit-policy-file={policy}",
            f"--audit-log-path={AUDIT_LOG}",
            "--audit-log-maxsize=500",
            "--audit-log-maxbackup=2",
            # Benchmarks measure the operator, not the default limits of the API server.
            "--max-requests-inflight=3000",
            "--max-mutating-requests-inflight=1000",
            "--endpoint-reconciler-type=lease",
        ),
    )
    processes.wait_until(lambda: _ready(addresses), name="kube-apiserver", seconds=90)


def _ready(addresses: Addresses) -> bool:
    context = ssl.create_default_context(cafile=path("ca.crt"))
    context.load_cert_chain(path("admin.crt"), path("admin.key"))
    try:
        url = f"https://{addresses.node}:6443/readyz"
        with urllib.request.urlopen(url, context=context, timeout=2) as answer:
            return bool(answer.status == 200)  # noqa: PLR2004 - HTTP OK
    except (urllib.error.URLError, OSError):
        return False


def _controller_manager() -> list[str]:
    config = STATE / "controller-manager.kubeconfig"
    return [
        f"--kubeconfig={config}",
        f"--authentication-kubeconfig={config}",
        f"--authorization-kubeconfig={config}",
        "--bind-address=127.0.0.1",
        "--leader-elect=false",
        "--use-service-account-credentials=true",
        f"--root-ca-file={DIRECTORY / 'ca.crt'}",
        f"--service-account-private-key-file={DIRECTORY / 'service-accounts.key'}",
        f"--cluster-signing-cert-file={DIRECTORY / 'ca.crt'}",
        f"--cluster-signing-key-file={DIRECTORY / 'ca.key'}",
        # The defaults (20 requests a second, 5 Jobs at once) are for large clusters with many controllers; here they
        # would make the Job controller the bottleneck of every benchmark of the operator.
        "--kube-api-qps=200",
        "--kube-api-burst=400",
        "--concurrent-job-syncs=20",
        "--concurrent-gc-syncs=20",
    ]


def down() -> None:
    """Stop the control plane, and forget the cluster with it."""
    for name in ("kube-scheduler", "kube-controller-manager", "kube-apiserver", "etcd"):
        processes.stop(name)
    if mounts.is_mounted(ETCD_DATA):
        run(["umount", ETCD_DATA], log="etcd")
