"""`make up` and `make down`: the local cluster from its parts, repaired where it is broken."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import addons
import binaries
import certificates
import containerd
import control_plane
import environment
import network
import node
import packages
import processes
import store
from paths import KUBECONFIG, LOGS, NAME, RUNTIME, STATE, write
from progress import StepFailedError, say, step

_DAEMONS = (
    "containerd",
    "coredns",
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubelet",
    "versitygw",
)
_OWNER = RUNTIME.parent / f"{NAME}.owner"


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    STATE.mkdir(parents=True, exist_ok=True)
    with (STATE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _must_be_ours() -> None:
    """One local cluster per machine: its network namespace has one name."""
    owner = _OWNER.read_text() if _OWNER.exists() else str(STATE)
    if owner != str(STATE):
        raise StepFailedError(f"A local cluster with its state in {owner} exists: TRIMTAB_STATE={owner} make down")


def prepare() -> None:
    """Install and compile all that the cluster needs."""
    packages.ensure_cluster_tools()
    binaries.kubernetes()
    binaries.tools()
    # The unit tests need no network then.
    binaries.kstatus()
    if not environment.users_store():
        binaries.object_store()


def up() -> None:
    """Bring up what is missing; all of it the first time, nothing when all is well."""
    if os.geteuid() != 0:
        raise StepFailedError(
            "The local cluster needs root (namespaces, mounts). Run as root, or set KUBECONFIG to use your own cluster.",
        )
    prepare()
    kubernetes, tools = binaries.kubernetes(), binaries.tools()
    with _one_at_a_time():
        _must_be_ours()
        write(_OWNER, str(STATE))
        RUNTIME.mkdir(parents=True, exist_ok=True)
        with step("Starting the local cluster", "10 s"):
            _forget_a_lost_cluster()
            addresses = network.choose_addresses()
            network.up(addresses)
            certificates.make(node=node.NAME, node_address=addresses.node, api_service_address=addresses.api_service)
            environment.link_programs([(kubernetes, "kubectl"), (tools, "helm")])
            if not environment.users_store():
                store.up(addresses.node, binaries.object_store(), wrap=network.inside)
            containerd.up(addresses)
            control_plane.up(addresses, kubernetes)
            node.apply(kubernetes, addons.documents(addresses))
            node.up(addresses, kubernetes, tools, containerd.SOCKET)
    say(f'The cluster is up. For your shell: eval "$(make -s env)"   (KUBECONFIG={KUBECONFIG})')


def _forget_a_lost_cluster() -> None:
    """Without etcd's memory the cluster is gone (`make down`, a reboot): clear away what belonged to it."""
    if (control_plane.ETCD_DATA / "data").exists():
        return
    _stop_everything()
    store.forget()
    for leftover in ("pki", "pod-addresses", "volumes"):
        shutil.rmtree(STATE / leftover, ignore_errors=True)
    for name in (*_DAEMONS, "audit"):
        for log in LOGS.glob(f"{name}*.log"):
            log.unlink()


def _stop_everything() -> None:
    """Kubelet first, or it would start again what is stopped; containers while there still is a containerd."""
    processes.stop("kubelet")
    containerd.down()
    node.down()
    control_plane.down()
    store.down()
    network.down()
    node.clean()


def down() -> None:
    """Stop the cluster and leave nothing of it running, mounted or configured."""
    with _one_at_a_time():
        _must_be_ours()
        with step("Stopping the local cluster", "5 s"):
            _stop_everything()
            shutil.rmtree(STATE / "pod-addresses", ignore_errors=True)
            shutil.rmtree(RUNTIME, ignore_errors=True)
            _OWNER.unlink(missing_ok=True)
            if RUNTIME.parent.exists() and not any(RUNTIME.parent.iterdir()):
                RUNTIME.parent.rmdir()
    say("The cluster is down. Its images and programs stay in the cache.")
