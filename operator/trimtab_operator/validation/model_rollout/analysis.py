"""Rules about the analyses of a rollout's steps."""

from collections.abc import Iterator

from trimtab_operator.api.v1alpha1.analysis import Metric
from trimtab_operator.api.v1alpha1.reasons import Reason
from trimtab_operator.expressions import problem_of
from trimtab_operator.state import ObservedRollout, Problem
from trimtab_trainer.contract.canary import METRICS_OF_TASK

TEXT_METRICS = ("firstTextSeconds", "answerTokens", "cutAnswerRate")
"""What servers count of generated text only."""


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
            if asks is None or task is None or asks.metric in known:
                continue
            place = f"spec.strategy.canary.steps[{index}].analysis: provider.job"
            message = (
                f"{place}.metric of metric {metric.name} must be one of {', '.join(known)} for the task {task.kind}; got {asks.metric}."
                if known
                else f"{place} of metric {metric.name} cannot ask models of the task {task.kind}, only of "
                f"{', '.join(METRICS_OF_TASK)}; use provider.server."
            )
            return Problem(Reason.SPEC_INVALID, message)
    return None


def metrics_are_counted(observed: ObservedRollout) -> Problem | None:
    """A metric that a task's servers never count would keep the rollout waiting for ever."""
    version = observed.wanted
    task = version.spec.task if version else None
    if task is None or task.causal_language_modeling is not None:
        return None
    for index, step in enumerate(observed.rollout.spec.strategy.canary.steps):
        for metric in step.analysis.metrics if step.analysis else ():
            server = metric.provider.server
            if server is not None and server.metric in TEXT_METRICS:
                return Problem(
                    Reason.SPEC_INVALID,
                    f"spec.strategy.canary.steps[{index}].analysis: metric {metric.name} asks for {server.metric}, which is counted for "
                    f"generated text; models of the task {task.kind} have errorRate, latencySeconds and requests.",
                )
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
