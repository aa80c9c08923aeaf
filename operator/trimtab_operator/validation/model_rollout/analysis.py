"""Rules about the analyses of a rollout's steps."""

from collections.abc import Iterator

from trimtab_operator.api.v1alpha1.analysis import Metric
from trimtab_operator.api.v1alpha1.reasons import Reason
from trimtab_operator.expressions import problem_of
from trimtab_operator.state import ObservedRollout, Problem
from trimtab_trainer.contract.canary import METRICS_OF_TASK


def conditions_can_be_read(observed: ObservedRollout) -> Problem | None:
    """A condition that nobody can read must not be found out in the middle of a rollout."""
    found = list(_unreadable(observed))
    if not found:
        return None
    message = f"{' '.join(found)} See docs/rollout.md for what a condition may have."
    return Problem(Reason.SPEC_INVALID, message)


def jobs_can_measure(observed: ObservedRollout) -> Problem | None:
    """A metric that the task does not have would be an error in the middle of a rollout."""
    task = observed.wanted.spec.task if observed.wanted else None
    known = METRICS_OF_TASK.get(task.kind, ()) if task else ()
    for index, step in enumerate(observed.rollout.spec.strategy.canary.steps):
        for metric in step.analysis.metrics if step.analysis else ():
            asks = metric.provider.job
            if asks is None or not known or asks.metric in known:
                continue
            message = (
                f"spec.strategy.canary.steps[{index}].analysis: provider.job.metric of metric {metric.name} must be one of {', '.join(known)} for "
                f"the task {task.kind if task else ''}; got {asks.metric}."
            )
            return Problem(Reason.SPEC_INVALID, message)
    return None


def _unreadable(observed: ObservedRollout) -> Iterator[str]:
    for index, step in enumerate(observed.rollout.spec.strategy.canary.steps):
        for metric in step.analysis.metrics if step.analysis else ():
            for field, text in _conditions(metric):
                problem = problem_of(text)
                if problem:
                    yield f"spec.strategy.canary.steps[{index}].analysis: {field} of metric {metric.name}: {problem}."


def _conditions(metric: Metric) -> Iterator[tuple[str, str]]:
    if metric.success_condition:
        yield "successCondition", metric.success_condition
    if metric.failure_condition:
        yield "failureCondition", metric.failure_condition
