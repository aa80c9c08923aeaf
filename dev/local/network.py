"""The cluster's network namespace: bridges, routes, packet filters and sysctls live and vanish with it.

One veth pair joins it to the host. Pods reach the node and the host's end of the pair, and nothing beyond: the namespace
has no default route.
"""

import ipaddress
import json
from dataclasses import dataclass
from pathlib import Path

import mounts
from paths import NAME, STATE, write
from progress import StepFailedError, output_of, run, succeeds

NAMESPACE = NAME
_HOST_END, _NODE_END = f"{NAME}-host", f"{NAME}-node"
_NAMESPACES = Path("/run/netns")
_CHOICES = range(213, 250)  # 10.<n>.0.0/16
_MADE_MOUNT = STATE / "made-netns-mount"


@dataclass(frozen=True)
class Addresses:
    """Every address of the cluster, all within 10.<n>.0.0/16."""

    number: int

    @property
    def all(self) -> str:
        """The whole range."""
        return f"10.{self.number}.0.0/16"

    @property
    def host(self) -> str:
        """The host, as seen from the cluster."""
        return f"10.{self.number}.0.1"

    @property
    def node(self) -> str:
        """The node: API server, DNS and object store listen here."""
        return f"10.{self.number}.0.2"

    @property
    def pods(self) -> str:
        """The pods' range."""
        return f"10.{self.number}.64.0/18"

    @property
    def services(self) -> str:
        """The Services' range."""
        return f"10.{self.number}.192.0/18"

    @property
    def api_service(self) -> str:
        """The Service `kubernetes`."""
        return f"10.{self.number}.192.1"

    @property
    def dns_service(self) -> str:
        """The Service `kube-dns`."""
        return f"10.{self.number}.192.10"


def choose_addresses() -> Addresses:
    """The range chosen when the cluster was made, else the first that the host does not use."""
    chosen = STATE / "network-number"
    if chosen.exists():
        return Addresses(int(chosen.read_text()))
    used = [
        ipaddress.ip_network(route["dst"], strict=False)
        for route in json.loads(output_of(["ip", "-json", "-4", "route", "show", "table", "all"]))
        if route["dst"] != "default"
    ]
    for number in _CHOICES:
        if not any(network.overlaps(ipaddress.ip_network(f"10.{number}.0.0/16")) for network in used):
            write(chosen, str(number))
            return Addresses(number)
    raise StepFailedError("Every network the local cluster could use is taken by a route of this machine.")


def inside(*command: str | Path) -> list[str | Path]:
    """The command, run in the cluster's network; `ip netns exec` would hide the cgroup mounts from kubelet."""
    return ["nsenter", f"--net={_NAMESPACES / NAMESPACE}", "--", *command]


def _ip(*arguments: str) -> None:
    run(["ip", *arguments], log="network")


def up(addresses: Addresses) -> None:
    """Make the namespace and the veth pair; what is half made is made anew."""
    if not succeeds(inside("true")):
        remove_namespace()
        if not mounts.is_mounted(_NAMESPACES):
            write(_MADE_MOUNT, "")
        _ip("netns", "add", NAMESPACE)
    if not succeeds(inside("ip", "addr", "show", "dev", _NODE_END)):
        succeeds(["ip", "link", "delete", _HOST_END])
        _ip("link", "add", _HOST_END, "type", "veth", "peer", "name", _NODE_END, "netns", NAMESPACE)
    _ip("addr", "replace", f"{addresses.host}/24", "dev", _HOST_END)
    _ip("link", "set", _HOST_END, "up")
    _ip("-n", NAMESPACE, "addr", "replace", f"{addresses.node}/24", "dev", _NODE_END)
    _ip("-n", NAMESPACE, "link", "set", _NODE_END, "up")
    _ip("-n", NAMESPACE, "link", "set", "lo", "up")
    # The host reaches pods and Services, e.g. for an operator that a developer runs outside of the cluster.
    _ip("route", "replace", addresses.all, "via", addresses.node)
    # Programs on the node reach Services too: without any route their packets would end before Services are looked up.
    _ip("-n", NAMESPACE, "route", "replace", addresses.services, "via", addresses.host)
    run(inside("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"), log="network")


def remove_namespace() -> None:
    """Take away the namespace and with it everything that lives in it."""
    succeeds(["ip", "link", "delete", _HOST_END])
    if (_NAMESPACES / NAMESPACE).exists():
        _ip("netns", "delete", NAMESPACE)


def down() -> None:
    """Leave the host's network as it was."""
    remove_namespace()
    # `ip netns` makes its directory a mount of its own and leaves it: undo that if it was our doing.
    if _MADE_MOUNT.exists():
        if mounts.is_mounted(_NAMESPACES) and not any(_NAMESPACES.iterdir()):
            run(["umount", _NAMESPACES], log="network")
            _NAMESPACES.rmdir()
        _MADE_MOUNT.unlink()
