"""Which version a new one is compared with."""

from collections.abc import Iterable, Sequence

from trimtab_operator.api.v1alpha1 import ModelRollout, ModelVersion


def champion(
    versions: Sequence[ModelVersion], rollouts: Iterable[ModelRollout], *, but: str = ""
) -> ModelVersion | None:
    """The version that serves now, else the newest promotable one.

    Args:
        versions: all of one model.
        rollouts: all of that model; of several, the first by name that serves something.
        but: the version that is to be judged. One that serves already has nobody to beat.
    """
    serving = next(
        (rollout.status.stable_version for rollout in rollouts if rollout.status.stable_version is not None), None
    )
    if serving is not None:
        found = next((version for version in versions if version.spec.version == serving), None)
        return found if found is None or found.metadata.name != but else None
    others = [version for version in versions if version.metadata.name != but and _is_good(version)]
    return max(others, key=lambda version: version.spec.version, default=None)


def _is_good(version: ModelVersion) -> bool:
    verified = version.status.condition("Verified")
    return (
        version.artifact is not None
        and version.status.is_true("Promotable")
        and (verified is None or verified.status != "False")
    )
