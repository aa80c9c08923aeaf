"""The steps of a canary as they stand in the spec."""

from collections.abc import Sequence

from trimtab_operator.api.v1alpha1 import ModelRollout
from trimtab_operator.api.v1alpha1.analysis import Analysis, Step
from trimtab_trainer.contract.manifests import canonical_json, sha256_hex

FULL = 100


def digest(steps: Sequence[Step]) -> str:
    """Names the steps: a canary under other ones begins anew."""
    return sha256_hex(canonical_json([step.to_json() for step in steps]))[:16]


def weight_at(steps: Sequence[Step], index: int) -> int:
    """The canary's share while it is at a step: what the last `setWeight` said; all of it after the last step."""
    if index >= len(steps):
        return FULL
    said = [step.set_weight for step in steps[: index + 1] if step.set_weight is not None]
    return said[-1] if said else 0


def describe(steps: Sequence[Step], index: int) -> str:
    """A step in a few words."""
    if index >= len(steps):
        return "the rest of the traffic moves"
    step = steps[index]
    if step.set_weight is not None:
        return f"setWeight {step.set_weight}"
    if step.analysis is not None:
        return f"analysis of {', '.join(metric.name for metric in step.analysis.metrics)}"
    duration = step.pause.duration if step.pause else None
    return "pause until somebody promotes" if duration is None else f"pause {duration}"


def current_analysis(rollout: ModelRollout) -> Analysis | None:
    """The analysis that the stored status is at; None where it is at something else."""
    canary, steps = rollout.status.canary, rollout.spec.strategy.canary.steps
    index = rollout.status.current_step_index
    if canary is None or canary.rollback is not None or index is None or index >= len(steps):
        return None
    if canary.version != rollout.spec.version or canary.steps_digest != digest(steps):
        return None
    return steps[index].analysis
