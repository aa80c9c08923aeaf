"""What is wrong with a ModelVersion."""

from trimtab_operator.api.v1alpha1.reasons import Reason
from trimtab_operator.settings import Settings
from trimtab_operator.state import ObservedVersion, Problem


def check(observed: ObservedVersion, *, settings: Settings) -> tuple[Problem, ...]:
    """The problems of a version."""
    del settings  # every kind's check has it; no rule of this one needs it
    if observed.storage is not None:
        return ()
    name = observed.version.spec.storage
    message = f"StorageProfile '{name}' does not exist: have an administrator create it; nothing can read the artifact until then."
    return (Problem(Reason.STORAGE_PROFILE_NOT_FOUND, message, who="platform"),)
