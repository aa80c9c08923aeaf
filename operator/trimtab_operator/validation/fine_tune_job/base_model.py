"""Rules about ModelVersions that a job names, by `modelversion://name`: its base model, and a reward model."""

from trimtab_operator.api.v1alpha1 import ModelVersion
from trimtab_operator.api.v1alpha1.reasons import Reason
from trimtab_operator.state import ObservedJob, Problem

SCHEME = "modelversion://"


def base_version_exists(observed: ObservedJob) -> Problem | None:
    """The ModelVersion is looked up in the job's namespace."""
    uri = observed.job.spec.model.uri
    return _exists(uri.removeprefix(SCHEME) if uri.startswith(SCHEME) else "", observed.base_version)


def base_version_is_ready(observed: ObservedJob) -> Problem | None:
    """A version whose own conditions say that it is broken is no start."""
    return _is_ready(observed, observed.base_version)


def base_version_is_in_reach(observed: ObservedJob) -> Problem | None:
    """A pod has the credentials of one store: the job's."""
    return _is_in_reach(observed, observed.base_version)


def reward_version_exists(observed: ObservedJob) -> Problem | None:
    """Likewise the reward model."""
    return _exists(observed.job.spec.objective.reward_version, observed.reward_version)


def reward_version_is_ready(observed: ObservedJob) -> Problem | None:
    """Likewise the reward model."""
    return _is_ready(observed, observed.reward_version)


def reward_version_is_in_reach(observed: ObservedJob) -> Problem | None:
    """Likewise the reward model."""
    return _is_in_reach(observed, observed.reward_version)


def reward_version_judges(observed: ObservedJob) -> Problem | None:
    """A version that says what it is for must be a sequence classifier."""
    version = observed.reward_version
    if version is None or version.spec.task is None or version.spec.task.sequence_classification is not None:
        return None
    return Problem(
        Reason.SPEC_INVALID,
        f"ModelVersion '{version.metadata.name}' is for the task {version.spec.task.kind}: a reward model is a sequence classifier "
        "with one output. Name one that the objective `reward` made.",
    )


def _exists(name: str, version: ModelVersion | None) -> Problem | None:
    if not name or version is not None:
        return None
    return Problem(
        Reason.MODEL_VERSION_NOT_FOUND,
        f"ModelVersion '{name}' does not exist in this namespace: name one of `kubectl get mdv`, "
        "or wait until the job that publishes it is Complete; this job starts as soon as it exists.",
    )


def _is_ready(observed: ObservedJob, version: ModelVersion | None) -> Problem | None:
    if version is None:
        return None
    if version.metadata.deletion_timestamp is not None and not observed.job.status.attempts:
        return Problem(
            Reason.MODEL_VERSION_NOT_READY,
            f"ModelVersion '{version.metadata.name}' is being deleted: name one that stays.",
        )
    ready = version.status.condition("Ready")
    if ready is None or ready.status != "False":
        return None
    return Problem(
        Reason.MODEL_VERSION_NOT_READY,
        f"ModelVersion '{version.metadata.name}' is not ready ({ready.reason}): {ready.message}",
    )


def _is_in_reach(observed: ObservedJob, version: ModelVersion | None) -> Problem | None:
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
