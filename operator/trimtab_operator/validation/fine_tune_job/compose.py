"""Everything that keeps a FineTuneJob from starting. Nothing here is final: the job waits, and goes on once it is mended."""

from collections.abc import Callable

from trimtab_operator.settings import Settings
from trimtab_operator.state import ObservedJob, Problem
from trimtab_operator.validation.fine_tune_job import availability, base_model, gates, limits, profile, storage

Rule = Callable[[ObservedJob], Problem | None]

RULES: tuple[Rule, ...] = (
    availability.spec_is_available,
    profile.profile_exists,
    profile.quantities_are_readable,
    profile.task_is_allowed,
    profile.method_is_allowed,
    profile.model_uri_is_allowed,
    profile.reward_model_uri_is_allowed,
    profile.signing_has_a_key,
    storage.storage_exists,
    base_model.base_version_exists,
    base_model.base_version_is_ready,
    base_model.base_version_is_in_reach,
    base_model.reward_version_exists,
    base_model.reward_version_is_ready,
    base_model.reward_version_is_in_reach,
    base_model.reward_version_judges,
    gates.conditions_are_readable,
    limits.nodes_within_limit,
    limits.accelerators_within_limit,
    limits.accelerators_have_a_resource,
    limits.sequence_length_within_limit,
    limits.deadline_within_limit,
    limits.cost_has_a_price,
)
"""In the order in which a reader would mend them; the first one becomes the condition's reason."""


def check(observed: ObservedJob, *, settings: Settings) -> tuple[Problem, ...]:
    """The problems of a job. One at rest asks for nothing, so what has gone since cannot trouble it."""
    del settings  # every kind's check has it; no rule of this one needs it
    if observed.job.status.is_finished:
        return ()
    return tuple(problem for rule in RULES if (problem := rule(observed)) is not None)
