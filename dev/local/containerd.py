"""containerd: the node's container runtime, with a root of its own below the cache so that images survive `make down`."""

import json
import os
import re
import shutil
import signal
import tarfile
import tempfile
from pathlib import Path

import mounts
import processes
from network import Addresses, inside
from paths import CACHE, RUNTIME, STATE, write
from progress import output_of, run, succeeds

ROOT = CACHE / "containerd"
SOCKET = RUNTIME / "containerd.sock"
_NAME = "containerd"
# Where shims and runc keep sockets and records, whatever containerd's configuration says; removed when empty.
_SHARED_FOLDERS = tuple(Path("/run/containerd", name) for name in ("s", "runc/k8s.io", "runc", ""))
_PAUSE = "localhost/trimtab-pause:1"
_CONFIG = """\
version = 2
root = "{root}"
state = "{state}"
oom_score = 0
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.btrfs",
                    "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs",
                    "io.containerd.snapshotter.v1.devmapper"]
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = {restrict}
  stream_server_address = "127.0.0.1"
  # Below our own folder, where `make down` finds them, and not in /run/netns.
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{cni}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
"""


def ctr(*arguments: str) -> list[str | Path]:
    """A command of containerd's client in Kubernetes' own containerd namespace."""
    return ["ctr", "--address", SOCKET, "--namespace", "k8s.io", *arguments]


def _may_lower_oom_score() -> bool:
    """Whether CAP_SYS_RESOURCE is there; without it runc cannot start a pod that asks for a lower score."""
    found = re.search(r"^CapEff:\s*([0-9a-f]+)", Path("/proc/self/status").read_text(), re.MULTILINE)
    return bool(found) and bool(int(found.group(1), 16) & 1 << 24) if found else False


def up(addresses: Addresses) -> None:
    """Start containerd, and put the pause image in place."""
    cni = STATE / "cni"
    # Point to point, not a bridge: all traffic is routed, so Services work without the host-wide br_netfilter.
    network = {
        "cniVersion": "1.0.0",
        "name": "trimtab",
        "plugins": [
            {
                "type": "ptp",
                "ipMasq": False,
                "mtu": 1500,
                "ipam": {
                    "type": "host-local",
                    "dataDir": str(STATE / "pod-addresses"),
                    "ranges": [[{"subnet": addresses.pods}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            }
        ],
    }
    write(cni / "10-trimtab.conflist", json.dumps(network, indent=1))
    config = write(
        STATE / "containerd.toml",
        _CONFIG.format(
            root=ROOT,
            state=RUNTIME / "containerd",
            socket=SOCKET,
            pause=_PAUSE,
            cni=cni,
            restrict=str(not _may_lower_oom_score()).lower(),
        ),
    )
    processes.ensure(_NAME, inside("containerd", "--config", config, "--log-level", "warn"))
    processes.wait_until(lambda: succeeds(ctr("version")), name=_NAME, seconds=30)
    if _PAUSE not in output_of(ctr("images", "list", "--quiet")).split():
        _import_pause()


def _import_pause() -> None:
    """A pause image from Debian's static busybox: there is no registry to pull one from."""
    with tempfile.TemporaryDirectory(dir=CACHE) as directory:
        folder = Path(directory)
        with tarfile.open(folder / "layer.tar", "w") as layer:
            layer.add("/bin/busybox", arcname="bin/busybox")
        digest = output_of(["sha256sum", folder / "layer.tar"]).split()[0]
        config = {
            "architecture": _architecture(),
            "os": "linux",
            "config": {"Entrypoint": ["/bin/busybox", "sleep", "2147483647"], "User": "65535:65535"},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
        (folder / "config.json").write_text(json.dumps(config))
        manifest = [{"Config": "config.json", "RepoTags": [_PAUSE], "Layers": ["layer.tar"]}]
        (folder / "manifest.json").write_text(json.dumps(manifest))
        run(
            ["tar", "-C", folder, "-cf", folder / "image.tar", "manifest.json", "config.json", "layer.tar"],
            log="images",
        )
        run(ctr("images", "import", str(folder / "image.tar")), log="images")


def _architecture() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)


def remove_containers() -> None:
    """End every pod, gracefully enough for runc to take its mounts and cgroups away."""
    for task in output_of(ctr("tasks", "list", "--quiet"), check=False).split():
        succeeds(ctr("tasks", "delete", "--force", task))
    containers = output_of(ctr("containers", "list", "--quiet"), check=False).split()
    if containers:
        succeeds(ctr("containers", "delete", *containers))


def down() -> None:
    """Stop containers, containerd and what either left behind."""
    if processes.running(_NAME):
        remove_containers()
    processes.stop(_NAME)
    _end_shims()
    mounts.unmount_below(RUNTIME / "containerd")
    shutil.rmtree(RUNTIME / "containerd", ignore_errors=True)
    SOCKET.unlink(missing_ok=True)
    SOCKET.with_name(SOCKET.name + ".ttrpc").unlink(missing_ok=True)
    for folder in _SHARED_FOLDERS:
        if folder.exists() and not any(folder.iterdir()):
            folder.rmdir()


def _end_shims() -> None:
    """End shims that outlived containerd, and their containers: only those that serve our own socket."""
    ours = str(SOCKET).encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0].endswith(b"containerd-shim-runc-v2") and ours in words:
            shim = int(entry.name)
            for child in _children(shim):
                os.kill(child, signal.SIGKILL)
            if started := processes.start_time(shim):
                processes.end(shim, started, patience=1)


def _children(pid: int) -> list[int]:
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for file in lists for child in file.read_text().split()]
