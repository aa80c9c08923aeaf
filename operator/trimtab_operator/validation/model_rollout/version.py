"""Rules about the ModelVersion that should serve: it is there, its bytes are right, and it may be promoted."""

from trimtab_operator import names
from trimtab_operator.api.v1alpha1.reasons import Reason
from trimtab_operator.state import ObservedRollout, Problem

_SHOWN_VERSIONS = 8


def version_exists(observed: ObservedRollout) -> Problem | None:
    """Not yet published is no mistake: the rollout waits."""
    if observed.wanted is not None:
        return None
    spec = observed.rollout.spec
    known = sorted(version.spec.version for version in observed.versions)[-_SHOWN_VERSIONS:]
    choice = (
        f"set spec.version to one of {', '.join(map(str, known))}" if known else "no version of this model exists yet"
    )
    return Problem(
        Reason.MODEL_VERSION_NOT_FOUND,
        f"ModelVersion '{names.model_version(spec.model_name, spec.version)}' does not exist in this namespace: {choice}, "
        "or wait until a FineTuneJob publishes it; the rollout moves as soon as it exists.",
    )


def version_stays(observed: ObservedRollout) -> Problem | None:
    """What is being deleted goes on serving where it serves, and begins nowhere."""
    version, status = observed.wanted, observed.rollout.status
    if version is None or version.metadata.deletion_timestamp is None:
        return None
    if version.status.reclaim is None and version.spec.version in (status.stable_version, status.canary_version):
        return None
    return Problem(
        Reason.MODEL_VERSION_NOT_READY,
        f"ModelVersion '{version.metadata.name}' is being deleted: set spec.version to one that stays.",
    )


def version_is_imported(observed: ObservedRollout) -> Problem | None:
    """The copy of an import is published before it is served."""
    version = observed.wanted
    if version is None or version.artifact is not None:
        return None
    ready = version.status.condition("Ready")
    return Problem(
        Reason.MODEL_VERSION_NOT_READY,
        f"ModelVersion '{version.metadata.name}' is not imported yet: {ready.message if ready else 'nobody has looked at it.'} "
        "The rollout moves as soon as it is.",
    )


def version_is_verified(observed: ObservedRollout) -> Problem | None:
    """The bytes in the store are the bytes that training wrote."""
    version = observed.wanted
    if version is None:
        return None
    verified = version.status.condition("Verified")
    if verified is None:
        message = f"ModelVersion '{version.metadata.name}' has not been looked at yet; the rollout moves once it has."
        return Problem(Reason.NOT_VERIFIED, message, who="platform")
    if verified.status == "False":
        return Problem(
            Reason.NOT_VERIFIED,
            f"ModelVersion '{version.metadata.name}' is not verified: {verified.message} Set spec.version to a version that is.",
        )
    # Unknown: nobody has read the bytes back (an import). The server checks every digest before it loads them.
    return None


def version_is_signed(observed: ObservedRollout) -> Problem | None:
    """Where the profile demands it. Whether the signature holds, the server finds out before it loads."""
    version, profile = observed.wanted, observed.profile
    if version is None or profile is None or not profile.spec.signing.required or version.spec.signature is not None:
        return None
    return Problem(
        Reason.SIGNATURE_MISSING,
        f"ModelVersion '{version.metadata.name}' is not signed, and TrainingProfile '{profile.metadata.name}' demands it: set spec.version "
        "to a version that is, or publish again with output.sign: true.",
    )


def version_is_promotable(observed: ObservedRollout) -> Problem | None:
    """A version is not served because it exists, but because it earned it."""
    version = observed.wanted
    promotable = version.status.condition("Promotable") if version else None
    if version is None or promotable is None or promotable.status != "False":
        return None
    return Problem(
        Reason.NOT_PROMOTABLE,
        f"ModelVersion '{version.metadata.name}' may not be promoted: {promotable.message} "
        "Set spec.version to one that `kubectl get mdv` shows as promotable.",
    )
