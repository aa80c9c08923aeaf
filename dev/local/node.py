"""The node: kubelet, kube-proxy and the cluster's DNS."""

import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import certificates
import mounts
import paths
import processes
from network import Addresses, inside
from paths import KUBECONFIG, STATE, write
from progress import output_of, run

NAME = "trimtab-node"
_KUBELET_ROOT = STATE / "kubelet"
_CGROUPS = Path("/sys/fs/cgroup")
_CGROUP = paths.NAME


def _kubelet_configuration(addresses: Addresses, socket_path: Path) -> dict[str, object]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": certificates.path("ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": certificates.path("kubelet-server.crt"),
        "tlsPrivateKeyFile": certificates.path("kubelet-server.key"),
        "containerRuntimeEndpoint": f"unix://{socket_path}",
        "clusterDomain": "cluster.local",
        "clusterDNS": [addresses.dns_service],
        # Empty: pods resolve names of the cluster and nothing else.
        "resolvConf": str(write(STATE / "resolv.conf", "")),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{_CGROUP}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "oomScoreAdj": 0,
        "makeIPTablesUtilChains": False,
        "maxPods": 200,
        # Images cannot be pulled again, so none is ever collected; a full disk is reported late rather than early.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {"memory.available": "300Mi", "nodefs.available": "1Gi", "imagefs.available": "1Gi"},
        "kubeAPIQPS": 100,
        "kubeAPIBurst": 200,
        # Seen soon by tests that wait for a pod to end or to become ready.
        "syncFrequency": "10s",
        "nodeStatusUpdateFrequency": "5s",
        "containerLogMaxSize": "50Mi",
    }


def up(addresses: Addresses, binaries: Path, tools: Path, socket_path: Path) -> None:
    """Start what does not run and wait until the node is ready."""
    for folder in _cgroup_folders():
        folder.mkdir(exist_ok=True)
    _KUBELET_ROOT.mkdir(parents=True, exist_ok=True)
    config = write(STATE / "kubelet.json", json.dumps(_kubelet_configuration(addresses, socket_path), indent=1))
    processes.ensure(
        "kubelet",
        inside(
            binaries / "kubelet",
            f"--config={config}",
            f"--kubeconfig={STATE / 'kubelet.kubeconfig'}",
            f"--root-dir={_KUBELET_ROOT}",
            f"--cert-dir={STATE / 'kubelet-certificates'}",
            f"--hostname-override={NAME}",
            f"--node-ip={addresses.node}",
            "--v=1",
        ),
    )
    proxy = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": str(STATE / "kube-proxy.kubeconfig")},
        "hostnameOverride": NAME,
        "clusterCIDR": addresses.pods,
        "oomScoreAdj": 0,
        "bindAddress": addresses.node,
        "metricsBindAddress": "127.0.0.1:10249",
        "healthzBindAddress": "127.0.0.1:10256",
        # These sysctls belong to the whole machine; a network namespace of its own cannot and need not set them.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }
    config = write(STATE / "kube-proxy.json", json.dumps(proxy, indent=1))
    processes.ensure("kube-proxy", inside(binaries / "kube-proxy", f"--config={config}"))
    _dns(addresses, tools)
    processes.wait_until(lambda: _ready(binaries), name="kubelet", seconds=90)


def _dns(addresses: Addresses, tools: Path) -> None:
    corefile = write(
        STATE / "Corefile",
        f""".:53 {{
    bind {addresses.node}
    errors
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {STATE / "coredns.kubeconfig"}
        pods insecure
        ttl 5
    }}
    # Nothing beyond the cluster can be reached: say so at once, so that nobody waits for a time-out.
    template ANY ANY . {{
        rcode NXDOMAIN
    }}
}}
""",
    )
    processes.ensure("coredns", inside(tools / "coredns", "-conf", corefile))
    processes.wait_until(lambda: _listens(addresses.node, 53), name="coredns", seconds=30)


def _listens(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=1):
            return True
    except OSError:
        return False


def _ready(binaries: Path) -> bool:
    query = "{.status.conditions[?(@.type=='Ready')].status}"
    command: list[str | Path] = [
        binaries / "kubectl",
        "--kubeconfig",
        KUBECONFIG,
        "get",
        "node",
        NAME,
        "-o",
        f"jsonpath={query}",
    ]
    return output_of(command, check=False) == "True"


def down() -> None:
    """Stop the daemons; the containers are stopped by then."""
    for name in ("kubelet", "kube-proxy", "coredns"):
        processes.stop(name)


def clean() -> None:
    """Take away what kubelet mounts and makes outside of its folder."""
    mounts.unmount_below(_KUBELET_ROOT)
    # Never through a mount that stayed: it may be somebody's data.
    if not any(point.is_relative_to(_KUBELET_ROOT) for point in mounts.points()):
        shutil.rmtree(_KUBELET_ROOT, ignore_errors=True)
    # On cgroup v1 runc makes one in the unified hierarchy too.
    for folder in {*_cgroup_folders(), _CGROUPS / "unified" / _CGROUP}:
        # Only empty control groups can be removed, the innermost first.
        for inner in sorted(folder.rglob("*/"), key=lambda p: len(p.parts), reverse=True):
            if inner.is_dir():
                inner.rmdir()
        if folder.exists():
            folder.rmdir()


def _cgroup_folders() -> Iterator[Path]:
    if (_CGROUPS / "cgroup.controllers").exists():
        yield _CGROUPS / _CGROUP
        return
    for hierarchy in _CGROUPS.iterdir():
        if hierarchy.is_dir() and not hierarchy.is_symlink() and hierarchy.name != "unified":
            yield hierarchy / _CGROUP


def apply(binaries: Path, document: dict[str, object]) -> None:
    """Server-side apply of a List."""
    file = write(STATE / "addons.json", json.dumps(document, indent=1))
    run(
        [binaries / "kubectl", "--kubeconfig", KUBECONFIG, "apply", "--server-side", "--force-conflicts", "-f", file],
        log="addons",
    )
