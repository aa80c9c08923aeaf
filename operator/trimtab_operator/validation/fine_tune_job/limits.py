"""Upper limits that a profile sets, and what a budget needs."""

from trimtab_operator.api.v1alpha1.reasons import Reason
from trimtab_operator.api.v1alpha1.training_profile import ProfileLimits
from trimtab_operator.state import ObservedJob, Problem
from trimtab_operator.validation.fine_tune_job.profile import profile_name


def nodes_within_limit(observed: ObservedJob) -> Problem | None:
    """`limits.maxNodes`."""
    asked = observed.job.spec.distribution.nodes
    return _exceeded(observed, "distribution.nodes", asked=asked, limit=_limits(observed).max_nodes)


def accelerators_within_limit(observed: ObservedJob) -> Problem | None:
    """`limits.maxAcceleratorsPerNode`."""
    asked = observed.job.spec.distribution.accelerators_per_node
    limit = _limits(observed).max_accelerators_per_node
    return _exceeded(observed, "distribution.acceleratorsPerNode", asked=asked, limit=limit)


def accelerators_have_a_resource(observed: ObservedJob) -> Problem | None:
    """Accelerators are counted by an extended resource or made by a claim template."""
    profile = observed.profile_spec
    if profile is None or not observed.job.spec.distribution.accelerators_per_node:
        return None
    if profile.accelerator_resource or profile.resource_claim_template_name:
        return None
    return Problem(
        Reason.PROFILE_NOT_ALLOWED,
        f"TrainingProfile '{profile_name(observed)}' has no accelerators: set distribution.acceleratorsPerNode to 0 in a "
        "new job, or name a profile with accelerators.",
    )


def sequence_length_within_limit(observed: ObservedJob) -> Problem | None:
    """`limits.maxSequenceLength`."""
    asked = observed.job.spec.data.max_sequence_length
    return _exceeded(observed, "data.maxSequenceLength", asked=asked, limit=_limits(observed).max_sequence_length)


def deadline_within_limit(observed: ObservedJob) -> Problem | None:
    """`limits.maxActiveDeadlineSeconds`; a job that names none gets it as its own."""
    asked = observed.job.spec.run_policy.active_deadline_seconds
    if asked is None:
        return None
    limit = _limits(observed).max_active_deadline_seconds
    return _exceeded(observed, "runPolicy.activeDeadlineSeconds", asked=asked, limit=limit)


def cost_has_a_price(observed: ObservedJob) -> Problem | None:
    """Without a price nothing can be said about cost, and a budget must not be ignored."""
    profile = observed.profile_spec
    if profile is None or observed.job.spec.budget.max_cost is None or profile.price_per_hour is not None:
        return None
    return Problem(
        Reason.SPEC_INVALID,
        f"budget.maxCost needs a price and TrainingProfile '{profile_name(observed)}' has none: "
        "set budget.maxAcceleratorHours instead, or have an administrator set spec.pricePerHour and create the job again.",
    )


def _limits(observed: ObservedJob) -> ProfileLimits:
    return observed.profile_spec.limits if observed.profile_spec else ProfileLimits()


def _exceeded(observed: ObservedJob, path: str, *, asked: int, limit: int | None) -> Problem | None:
    if limit is None or asked <= limit:
        return None
    return Problem(
        Reason.PROFILE_NOT_ALLOWED,
        f"spec.{path} must be at most {limit} on TrainingProfile '{profile_name(observed)}'; got {asked}.",
    )
