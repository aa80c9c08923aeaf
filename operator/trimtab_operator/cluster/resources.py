"""The kinds that the operator reads and writes, and their paths in the API."""

from dataclasses import dataclass

from trimtab_operator import names
from trimtab_operator.api.v1alpha1 import KINDS


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind as the API server serves it."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool = True
    selector: str = ""
    """Label selector of its watch: foreign objects never reach the operator's memory."""

    @property
    def group(self) -> str:
        """API group; empty for the core one."""
        return self.api_version.rpartition("/")[0]

    @property
    def version(self) -> str:
        """API version without the group."""
        return self.api_version.rpartition("/")[2]

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """Path of the collection, an object or a sub-resource."""
        parts = [f"/apis/{self.api_version}" if self.group else f"/api/{self.api_version}"]
        if self.namespaced and namespace:
            parts.append(f"namespaces/{namespace}")
        parts.append(self.plural)
        parts += [part for part in (name, subresource) if part]
        return "/".join(parts)


_MANAGED = f"{names.MANAGED_LABEL}=true"

OURS = tuple(
    Resource(names.API_VERSION, kind.resource.kind, kind.resource.plural, kind.resource.scope == "Namespaced")
    for kind in KINDS
)
WATCHED = (
    *OURS,
    Resource("batch/v1", "Job", "jobs", selector=_MANAGED),
    Resource("v1", "Pod", "pods", selector=_MANAGED),
    Resource("apps/v1", "Deployment", "deployments", selector=_MANAGED),
    Resource("v1", "Service", "services", selector=_MANAGED),
)
"""Profiles first: jobs need them."""

_WRITTEN = (
    Resource("v1", "ConfigMap", "configmaps"),
    Resource("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets"),
    # Optional: asked for by name, never watched, so that a cluster without KServe needs nothing.
    Resource("serving.kserve.io/v1beta1", "InferenceService", "inferenceservices"),
    # Likewise.
    Resource("gateway.networking.k8s.io/v1", "HTTPRoute", "httproutes"),
    Resource("v1", "Event", "events"),
    Resource("coordination.k8s.io/v1", "Lease", "leases"),
    Resource("authentication.k8s.io/v1", "TokenReview", "tokenreviews", namespaced=False),
)

READ_EVERY_TIME = frozenset({"HTTPRoute"})
"""No watch shows them, and requests depend on them."""
WATCHED_KINDS = frozenset(resource.kind for resource in WATCHED)
OUR_KINDS = frozenset(resource.kind for resource in OURS)
_BY_KIND = {resource.kind: resource for resource in (*WATCHED, *_WRITTEN)}


def resource_of(kind: str) -> Resource:
    """The resource of a kind."""
    return _BY_KIND[kind]
