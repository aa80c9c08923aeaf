"""Rules about a base model that is a ModelVersion: `modelversion://name`."""

from trimtab_operator.api.v1alpha1.reasons import Reason
from trimtab_operator.state import ObservedJob, Problem

SCHEME = "modelversion://"


def base_version_exists(observed: ObservedJob) -> Problem | None:
    """The ModelVersion is looked up in the job's namespace."""
    uri = observed.job.spec.model.uri
    if not uri.startswith(SCHEME) or observed.base_version is not None:
        return None
    return Problem(
        Reason.MODEL_VERSION_NOT_FOUND,
        f"ModelVersion '{uri.removeprefix(SCHEME)}' does not exist in this namespace: name one of `kubectl get mdv`, "
        "or wait until the job that publishes it is Complete; this job starts as soon as it exists.",
    )


def base_version_is_ready(observed: ObservedJob) -> Problem | None:
    """A version whose own conditions say that it is broken is no start."""
    version = observed.base_version
    if version is None:
        return None
    if version.metadata.deletion_timestamp is not None and not observed.job.status.attempts:
        return Problem(
            Reason.MODEL_VERSION_NOT_READY,
            f"ModelVersion '{version.metadata.name}' is being deleted: start from one that stays.",
        )
    ready = version.status.condition("Ready")
    if ready is None or ready.status != "False":
        return None
    return Problem(
        Reason.MODEL_VERSION_NOT_READY,
        f"ModelVersion '{version.metadata.name}' is not ready ({ready.reason}): {ready.message}",
    )


def base_version_is_in_reach(observed: ObservedJob) -> Problem | None:
    """A pod has the credentials of one store: the job's."""
    version = observed.base_version
    if version is None or observed.storage_spec is None:
        return None
    name = observed.job.status.resolved.storage_name or (observed.storage.metadata.name if observed.storage else "")
    if version.spec.storage == name:
        return None
    return Problem(
        Reason.SPEC_INVALID,
        f"ModelVersion '{version.metadata.name}' lies in StorageProfile '{version.spec.storage}', this job uses '{name}': "
        f"create a job with spec.storage: {version.spec.storage}.",
    )
