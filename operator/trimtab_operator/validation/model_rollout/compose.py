"""Everything that keeps a ModelRollout from moving. What already serves goes on serving; mended, it moves by itself."""

from collections.abc import Callable

from trimtab_operator.settings import Settings
from trimtab_operator.state import ObservedRollout, Problem
from trimtab_operator.validation.model_rollout import analysis, gateway, kserve, profiles, serving, version

Rule = Callable[[ObservedRollout], Problem | None]

RULES: tuple[Rule, ...] = (
    kserve.service_can_be_written,
    gateway.route_can_be_read,
    analysis.conditions_can_be_read,
    analysis.jobs_can_measure,
    version.version_exists,
    version.version_stays,
    version.version_is_imported,
    version.version_is_verified,
    version.version_is_promotable,
    version.version_is_signed,
    gateway.whole_models_have_a_gateway,
    serving.version_can_be_served,
    analysis.metrics_are_counted,
    serving.versions_fit_together,
    kserve.version_is_verified_beforehand,
    kserve.steps_can_be_followed,
    kserve.metrics_are_measured_elsewhere,
    profiles.profile_exists,
    profiles.storage_exists,
)
"""In the order in which a reader would mend them; the first one becomes the condition's reason."""


def check(observed: ObservedRollout, *, settings: Settings) -> tuple[Problem, ...]:
    """The problems of a rollout."""
    del settings  # every kind's check has it; no rule of this one needs it
    return tuple(problem for rule in RULES if (problem := rule(observed)) is not None)
