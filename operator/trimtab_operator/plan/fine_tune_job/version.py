"""Which number the next ModelVersion of a name gets."""

from collections.abc import Collection, Iterable

from trimtab_operator import names
from trimtab_operator.api.v1alpha1 import FineTuneJob, ModelVersion


def next_version(
    model_name: str, versions: Iterable[ModelVersion], jobs: Iterable[FineTuneJob], taken: Collection[int]
) -> int:
    """The number after all that exist or are reserved in the namespace, skipping those whose place in the store is taken.

    A deleted ModelVersion leaves its bytes: its number comes back as `taken` and is not used again.
    """
    existing = (version.spec.version for version in versions if version.spec.model_name == model_name)
    reserved = (
        number for job in jobs if (number := reserved_version(job)) and job.spec.output.model_name == model_name
    )
    number = max((*existing, *reserved), default=0) + 1
    while number in taken:
        number += 1
    return number


def reserved_version(job: FineTuneJob) -> int | None:
    """The number that this job holds: `support-tone-v7` -> 7."""
    prefix = names.model_version(job.spec.output.model_name, 0).removesuffix("0")
    suffix = job.status.model_version.removeprefix(prefix)
    return int(suffix) if suffix != job.status.model_version and suffix.isdecimal() else None
