"""Rules about the TrainingProfile: it exists, it can be read, and it allows what the job asks for."""

from trimtab_operator.api.quantities import parse_quantity
from trimtab_operator.api.v1alpha1.reasons import Reason
from trimtab_operator.state import ObservedJob, Problem


def signing_has_a_key(observed: ObservedJob) -> Problem | None:
    """`output.sign` needs to be told by whose key."""
    output, profile = observed.job.spec.output, observed.profile_spec
    if not output.sign or output.signing_secret_name or profile is None or profile.signing.secret_name:
        return None
    return Problem(
        Reason.SPEC_INVALID,
        "spec.output.sign needs a key: name the Secret that has 'signing.key' in spec.output.signingSecretName of a new job, or have an "
        "administrator set spec.signing.secretName of the TrainingProfile.",
    )


def profile_exists(observed: ObservedJob) -> Problem | None:
    """A job runs on a profile: the one it names, or the default."""
    if observed.profile_spec is not None:
        return None
    name = observed.job.spec.profile
    if name is None:
        return Problem(
            Reason.PROFILE_NOT_FOUND,
            "spec.profile names no TrainingProfile and none is the default: name one of `kubectl get tprof`, "
            "or have an administrator set spec.default: true on one.",
        )
    return Problem(
        Reason.PROFILE_NOT_FOUND,
        f"TrainingProfile '{name}' does not exist: name one of `kubectl get tprof` in spec.profile of a new job, "
        "or have an administrator create it; this job starts as soon as it exists.",
    )


def quantities_are_readable(observed: ObservedJob) -> Problem | None:
    """The API server stores any text as a quantity of a profile; a Job with it would be refused."""
    profile = observed.profile_spec
    if profile is None:
        return None
    quantities = {
        "scratchSize": profile.scratch_size,
        **{f"resources.requests.{name}": quantity for name, quantity in profile.resources.requests.items()},
        **{f"resources.limits.{name}": quantity for name, quantity in profile.resources.limits.items()},
    }
    for path, quantity in quantities.items():
        try:
            parse_quantity(quantity)
        except ValueError as error:
            message = f"TrainingProfile '{profile_name(observed)}': spec.{path}: {error}."
            return Problem(Reason.CONFIG_INVALID, message, who="platform")
    return None


def task_is_allowed(observed: ObservedJob) -> Problem | None:
    """`allowed.tasks` of the profile."""
    profile, task = observed.profile_spec, observed.job.spec.task.kind
    if profile is None or not profile.allowed.tasks or task in profile.allowed.tasks:
        return None
    return _not_allowed(observed, f"task {task}", profile.allowed.tasks)


def method_is_allowed(observed: ObservedJob) -> Problem | None:
    """`allowed.methods` of the profile."""
    profile, method = observed.profile_spec, observed.job.spec.method.kind
    if profile is None or not profile.allowed.methods or method in profile.allowed.methods:
        return None
    return _not_allowed(observed, f"method {method}", profile.allowed.methods)


def model_uri_is_allowed(observed: ObservedJob) -> Problem | None:
    """`allowed.modelURIs` of the profile."""
    return _uri_is_allowed(observed, "model.uri", observed.job.spec.model.uri)


def reward_model_uri_is_allowed(observed: ObservedJob) -> Problem | None:
    """`allowed.modelURIs` of the profile."""
    source = observed.job.spec.objective.reward_model
    return _uri_is_allowed(observed, "rewardModel.uri", source.uri) if source is not None else None


def _uri_is_allowed(observed: ObservedJob, field: str, uri: str) -> Problem | None:
    profile = observed.profile_spec
    prefixes = profile.allowed.model_uris if profile else []
    if not prefixes or uri.startswith(tuple(prefixes)):
        return None
    return _not_allowed(observed, f"{field} {uri}", [f"{prefix}..." for prefix in prefixes])


def profile_name(observed: ObservedJob) -> str:
    """The profile's name, for messages."""
    if observed.job.status.resolved.profile_name:
        return observed.job.status.resolved.profile_name
    return observed.profile.metadata.name if observed.profile else observed.job.spec.profile or ""


def _not_allowed(observed: ObservedJob, asked: str, allowed: list[str]) -> Problem:
    return Problem(
        Reason.PROFILE_NOT_ALLOWED,
        f"TrainingProfile '{profile_name(observed)}' does not allow {asked}; it allows {', '.join(allowed)}. "
        "Create a job that asks for one of these or names another profile.",
    )
