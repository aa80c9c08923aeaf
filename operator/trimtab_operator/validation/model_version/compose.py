"""What is wrong with a ModelVersion."""

from trimtab_operator.api.v1alpha1.reasons import Reason
from trimtab_operator.settings import Settings
from trimtab_operator.state import ObservedVersion, Problem
from trimtab_operator.validation.fine_tune_job.gates import unreadable


def check(observed: ObservedVersion, *, settings: Settings) -> tuple[Problem, ...]:
    """The problems of a version."""
    del settings  # every kind's check has it; no rule of this one needs it
    found = (_storage_exists(observed), _conditions_are_readable(observed))
    return tuple(problem for problem in found if problem is not None)


def _storage_exists(observed: ObservedVersion) -> Problem | None:
    if observed.storage is not None:
        return None
    name = observed.version.spec.storage
    message = f"StorageProfile '{name}' does not exist: have an administrator create it; nothing can read the artifact until then."
    return Problem(Reason.STORAGE_PROFILE_NOT_FOUND, message, who="platform")


def _conditions_are_readable(observed: ObservedVersion) -> Problem | None:
    """Those of a version that a person wrote; a FineTuneJob's were read before it ran."""
    evaluation = observed.version.spec.evaluation
    return unreadable(evaluation.gates) if evaluation else None
