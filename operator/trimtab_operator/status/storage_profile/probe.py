"""Which probe result counts, and what it says."""

from trimtab_operator.api.times import parse_time
from trimtab_operator.api.v1alpha1.reasons import Reason
from trimtab_operator.api.v1alpha1.storage_profile import ProbeResult
from trimtab_operator.state import ObservedStorage
from trimtab_operator.status.conditions import Fact, fact

_PROMISES = (
    ("read_after_write", "a written object is not readable at once"),
    ("list_after_write", "a written object is not listed at once"),
    ("multipart", "multipart uploads fail"),
)
"""What checkpoints rest on. Conditional writes are not among them: they only save work."""


def newest_probe(observed: ObservedStorage) -> ProbeResult | None:
    """The newest result for the spec as it is. One of an older spec speaks of another store."""
    profile = observed.profile
    stored = profile.status.probe if profile.status.observed_generation == profile.metadata.generation else None
    reported = observed.report.store_probe if observed.report else None
    if reported is None:
        return stored
    fresh = ProbeResult.model_validate(reported.model_dump())
    if stored is not None:
        return fresh if _time(fresh) > _time(stored) else stored
    return None if _is_of_an_older_spec(observed, fresh) else fresh


def conformant(probe: ProbeResult | None) -> Fact:
    """Whether checkpoints are safe in this store."""
    if probe is None:
        message = "The first job that uses this store probes it; until then nothing is known."
        return fact("Conformant", holds=None, reason=Reason.NOT_PROBED, message=message)
    broken = [text for name, text in _PROMISES if not getattr(probe, name)]
    if broken:
        message = f"Checkpoints are not safe in this store: {'; '.join(broken)}. {probe.message} Use another store."
        return fact("Conformant", holds=False, reason=Reason.NOT_CONFORMANT, message=message)
    message = f"The store keeps the promises that checkpoints rest on. {probe.message}".strip()
    if not probe.conditional_writes:
        message += " Its conditional writes are not atomic; Trimtab does not rely on them."
    return fact("Conformant", holds=True, reason=Reason.CONFORMANT, message=message)


def _is_of_an_older_spec(observed: ObservedStorage, probe: ProbeResult) -> bool:
    """The spec has changed since the status was written, or the result is older than the question."""
    profile = observed.profile
    asked = profile.status.condition("Conformant")
    if asked is None:
        # A profile of this name that was deleted may have spoken of another store.
        return _time(probe) < parse_time(profile.metadata.creation_timestamp).timestamp()
    if profile.status.observed_generation != profile.metadata.generation:
        return True
    return asked.status == "Unknown" and _time(probe) < parse_time(asked.last_transition_time).timestamp()


def _time(probe: ProbeResult) -> float:
    try:
        return parse_time(probe.checked_at).timestamp()
    except ValueError:
        return 0.0
