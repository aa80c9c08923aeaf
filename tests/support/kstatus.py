"""kstatus's rules for custom resources, as `sigs.k8s.io/cli-utils/pkg/kstatus/status` has them (generic.go, status.go, core.go).

In their order: deletion, observedGeneration, the conditions Reconciling and Stalled in the order in which they are listed, Ready, and
else Current. `kubectl wait`-like tools, Flux, kpt and Config Sync decide by them.
"""

from tests.support.cluster import Manifest


def kstatus(body: Manifest) -> str:
    """InProgress, Failed, Current or Terminating."""
    metadata, status = body["metadata"], body.get("status") or {}
    if metadata.get("deletionTimestamp"):
        return "Terminating"
    # Only where the field is there; a missing one says nothing.
    if status.get("observedGeneration", metadata.get("generation")) != metadata.get("generation"):
        return "InProgress"
    for condition in status.get("conditions", []):
        if condition["status"] == "True" and condition["type"] in ("Reconciling", "Stalled"):
            return "InProgress" if condition["type"] == "Reconciling" else "Failed"
    ready = next((condition for condition in status.get("conditions", []) if condition["type"] == "Ready"), None)
    return "Current" if ready is None or ready["status"] == "True" else "InProgress"
