"""Rules about the StorageProfile."""

from trimtab_operator.api.v1alpha1.reasons import Reason
from trimtab_operator.state import ObservedJob, Problem


def storage_exists(observed: ObservedJob) -> Problem | None:
    """A job writes to a store: the one it names, or the default."""
    if observed.storage_spec is not None:
        return None
    name = observed.job.spec.storage
    if name is None:
        return Problem(
            Reason.STORAGE_PROFILE_NOT_FOUND,
            "spec.storage names no StorageProfile and none is the default: name one of `kubectl get sprof`, "
            "or have an administrator set spec.default: true on one.",
        )
    return Problem(
        Reason.STORAGE_PROFILE_NOT_FOUND,
        f"StorageProfile '{name}' does not exist: name one of `kubectl get sprof` in spec.storage of a new job, "
        "or have an administrator create it; this job starts as soon as it exists.",
    )
