"""Rules about the profiles of a rollout's server."""

from trimtab_operator.api.v1alpha1.reasons import Reason
from trimtab_operator.state import ObservedRollout, Problem


def profile_exists(observed: ObservedRollout) -> Problem | None:
    """The server runs on a profile: the rollout's, the one that trained the version, or the default."""
    version, serving = observed.wanted, observed.rollout.spec.serving
    if version is None or observed.profile is not None or serving.servers is None:
        return None
    name = serving.servers.profile or version.spec.profile
    said = f"TrainingProfile '{name}' does not exist" if name else "No TrainingProfile is named and none is the default"
    return Problem(
        Reason.PROFILE_NOT_FOUND,
        f"{said}: name one of `kubectl get tprof` in spec.serving.{serving.kind}.profile, or have an administrator create it.",
    )


def storage_exists(observed: ObservedRollout) -> Problem | None:
    """The bytes are where the version says."""
    version = observed.wanted
    if version is None or observed.storage is not None or observed.rollout.spec.serving.servers is None:
        return None
    return Problem(
        Reason.STORAGE_PROFILE_NOT_FOUND,
        f"StorageProfile '{version.spec.storage}' of ModelVersion '{version.metadata.name}' does not exist: "
        "have an administrator create it again.",
        who="platform",
    )
