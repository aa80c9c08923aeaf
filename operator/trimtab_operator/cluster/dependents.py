"""What needs the bytes of a ModelVersion, besides rollouts. Looked up where bytes are about to go: seldom, so without an index."""

from collections.abc import Iterator
from typing import Any

from trimtab_operator.api.v1alpha1 import ModelVersion
from trimtab_operator.cluster.store import Store
from trimtab_operator.cluster.trim import AT_REST, models_of


def dependents(store: Store, version: ModelVersion) -> Iterator[str]:
    """Jobs that start from it or are judged by it, versions that were made of it or name the same bytes; each as a few words."""
    metadata = version.metadata
    start = f"modelversion://{metadata.name}"
    for job in store.all("FineTuneJob"):
        if job.namespace == metadata.namespace and not job.deleting:
            body = job.body()
            if start in models_of(body["spec"]) and (body.get("status") or {}).get("state") not in AT_REST:
                yield f"FineTuneJob {job.name}"
    if version.artifact is None:
        return
    for other in store.all("ModelVersion"):
        if other.uid != metadata.uid and version.artifact.uri in _uris(other.body()):
            # Other namespaces' names are not told.
            yield f"ModelVersion {other.name}" if other.namespace == metadata.namespace else "another namespace"


def _uris(body: dict[str, Any]) -> tuple[str, ...]:
    """Bytes that a ModelVersion needs: its own, and those under an adapter."""
    spec, status = body["spec"], body.get("status") or {}
    own = spec.get("artifact") or status.get("artifact") or {}
    return (str(own.get("uri", "")), str((spec.get("baseModel") or {}).get("uri", "")))
