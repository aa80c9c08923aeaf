"""Rules of rollouts on KServe."""

from trimtab_operator.api.v1alpha1.reasons import Reason
from trimtab_operator.inference import InferenceService
from trimtab_operator.state import ObservedRollout, Problem


def service_can_be_written(observed: ObservedRollout) -> Problem | None:
    """KServe is there, the InferenceService is there, and no other rollout writes it."""
    return observed.inference.problem if observed.inference is not None else None


def version_is_verified_beforehand(observed: ObservedRollout) -> Problem | None:
    """Trimtab's servers check every byte when they load it; KServe's storage initializer checks none."""
    version = observed.wanted
    verified = version.status.condition("Verified") if version is not None else None
    if observed.inference is None or version is None or verified is None or verified.status != "Unknown":
        return None
    return Problem(
        Reason.NOT_VERIFIED,
        f"Nobody has read the bytes of ModelVersion '{version.metadata.name}' back, and KServe does not check them when it loads them: "
        f"`kubectl annotate mdv {version.metadata.name} trimtab.dev/verify=1`, the rollout moves once Verified is True.",
    )


def steps_can_be_followed(observed: ObservedRollout) -> Problem | None:
    """Only KServe's Knative mode divides traffic by `canaryTrafficPercent`; the other one ignores it without a word."""
    rollout, found = observed.rollout, observed.inference
    if found is None or found.body is None or observed.stable is None or not rollout.spec.strategy.canary.steps:
        return None
    service = InferenceService.parse(found.body)
    if service.splits or rollout.spec.version == rollout.status.stable_version:
        return None
    return Problem(
        Reason.NOT_COMPATIBLE,
        f"InferenceService '{service.name}' is in the deployment mode {service.mode or '(none yet)'}, which does not divide traffic: "
        "remove spec.strategy.canary.steps, or make it with the annotation serving.kserve.io/deploymentMode: Knative.",
    )


def metrics_are_measured_elsewhere(observed: ObservedRollout) -> Problem | None:
    """`provider.server` is what Trimtab's own servers counted, and `provider.job` asks them by the versions' names."""
    if observed.inference is None:
        return None
    for index, step in enumerate(observed.rollout.spec.strategy.canary.steps):
        for metric in step.analysis.metrics if step.analysis else ():
            if metric.provider.prometheus is None:
                return Problem(
                    Reason.SPEC_INVALID,
                    f"spec.strategy.canary.steps[{index}].analysis: metric {metric.name} asks servers of Trimtab, and with serving.kserve "
                    "there are none: use provider.prometheus.",
                )
    return None
