"""What the schema of a StorageProfile cannot say."""

from trimtab_operator.api.v1alpha1.reasons import Reason
from trimtab_operator.settings import Settings
from trimtab_operator.state import ObservedStorage, Problem

_PEM = "-----BEGIN CERTIFICATE-----"


def check(observed: ObservedStorage, *, settings: Settings) -> tuple[Problem, ...]:
    """The problems of a profile. Whether the store keeps its promises, a trainer's probe finds out."""
    del settings  # every kind's check has it
    bundle = observed.profile.spec.ca_bundle
    if bundle and _PEM not in bundle:
        message = f"spec.caBundle must hold PEM certificates ('{_PEM} ...'); a Secret's base64 has to be decoded first."
        return (Problem(Reason.SPEC_INVALID, message),)
    return ()
