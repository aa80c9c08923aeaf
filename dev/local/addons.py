"""What a cluster has beyond its daemons: the DNS Service, and storage for tests of `pvc://`."""

from collections.abc import Iterator
from typing import Any

from network import Addresses
from node import NAME
from paths import STATE

_VOLUMES = 3
_LABELS = {"app.kubernetes.io/managed-by": "trimtab-dev"}


def documents(addresses: Addresses) -> dict[str, Any]:
    """All of them as one List."""
    return {"apiVersion": "v1", "kind": "List", "items": [*_dns(addresses), *_storage()]}


def _dns(addresses: Addresses) -> Iterator[dict[str, Any]]:
    yield {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "trimtab:coredns", "labels": _LABELS},
        "rules": [
            {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": ["list", "watch"]},
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
        ],
    }
    yield {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "trimtab:coredns", "labels": _LABELS},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "trimtab:coredns"},
        "subjects": [{"kind": "User", "name": "trimtab:coredns", "apiGroup": "rbac.authorization.k8s.io"}],
    }
    ports = [("dns", "UDP"), ("dns-tcp", "TCP")]
    yield {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": {"k8s-app": "kube-dns", **_LABELS}},
        "spec": {
            "clusterIP": addresses.dns_service,
            "ports": [{"name": name, "protocol": protocol, "port": 53} for name, protocol in ports],
        },
    }
    # CoreDNS runs beside kubelet, not in a pod: the Service has no selector and names the node itself.
    yield {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "kube-dns-node",
            "namespace": "kube-system",
            "labels": {"kubernetes.io/service-name": "kube-dns", **_LABELS},
        },
        "addressType": "IPv4",
        "ports": [{"name": name, "protocol": protocol, "port": 53} for name, protocol in ports],
        "endpoints": [{"addresses": [addresses.node], "conditions": {"ready": True}}],
    }


def _storage() -> Iterator[dict[str, Any]]:
    yield {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "static", "labels": _LABELS},
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "Immediate",
        "reclaimPolicy": "Retain",
    }
    for number in range(1, _VOLUMES + 1):
        folder = STATE / "volumes" / f"static-{number}"
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o777)  # fsGroup does not apply to hostPath, and pods run as an arbitrary user
        yield {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": f"static-{number}", "labels": _LABELS},
            "spec": {
                "storageClassName": "static",
                "capacity": {"storage": "5Gi"},
                "accessModes": ["ReadWriteOnce", "ReadWriteMany", "ReadOnlyMany"],
                "persistentVolumeReclaimPolicy": "Retain",
                "hostPath": {"path": str(folder), "type": "Directory"},
                "nodeAffinity": {
                    "required": {
                        "nodeSelectorTerms": [
                            {
                                "matchExpressions": [
                                    {"key": "kubernetes.io/hostname", "operator": "In", "values": [NAME]},
                                ]
                            }
                        ]
                    }
                },
            },
        }
