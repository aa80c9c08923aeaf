"""What the schema of a TrainingProfile cannot say."""

from collections.abc import Iterator

from trimtab_operator.api.quantities import parse_quantity
from trimtab_operator.api.v1alpha1.reasons import Reason
from trimtab_operator.api.v1alpha1.training_profile import ResourceRequirements
from trimtab_operator.settings import Settings
from trimtab_operator.state import ObservedProfile, Problem


def check(observed: ObservedProfile, *, settings: Settings) -> tuple[Problem, ...]:
    """The problems of a profile: what would make every pod of it be refused."""
    del settings  # every kind's check has it
    spec = observed.profile.spec
    said = [
        *_quantities("spec.resources", spec.resources),
        *_quantities("spec.serverResources", spec.server_resources),
        *_unreadable("spec.scratchSize", spec.scratch_size),
    ]
    return tuple(Problem(Reason.SPEC_INVALID, message) for message in said)


def _quantities(path: str, resources: ResourceRequirements) -> Iterator[str]:
    """Quantities are readable, and no request is above its limit."""
    for kind, quantities in (("requests", resources.requests), ("limits", resources.limits)):
        for name, quantity in quantities.items():
            yield from _unreadable(f"{path}.{kind}['{name}']", quantity)
    for name in sorted(resources.requests.keys() & resources.limits.keys()):
        request, limit = resources.requests[name], resources.limits[name]
        readable = not [*_unreadable("", request), *_unreadable("", limit)]
        if readable and parse_quantity(request) > parse_quantity(limit):
            yield f"{path}.requests['{name}'] is {request}, but must be at most the limit, {limit}."


def _unreadable(path: str, quantity: str | int) -> Iterator[str]:
    try:
        parse_quantity(quantity)
    except ValueError as error:
        yield f"{path}: {error}."
