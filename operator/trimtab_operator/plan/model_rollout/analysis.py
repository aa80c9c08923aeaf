"""The analysis of a canary's step: what is due to be measured, and what the measurements come to. Counted in the status, so that a restart forgets nothing."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from trimtab_operator import names
from trimtab_operator.api.times import format_time, parse_duration, parse_time
from trimtab_operator.api.v1alpha1.analysis import Analysis, Measurement, Metric, MetricResult
from trimtab_operator.expressions import Conditions, Limits, Phase, conclude, measure, worst
from trimtab_operator.plan.model_rollout import steps
from trimtab_operator.state import DueMetric, ObservedRollout, Sample

KEPT_MEASUREMENTS = 5
KEPT_RESULTS = 64
WAIT = timedelta(seconds=1)
"""How soon to look again for enough requests."""


def due(observed: ObservedRollout, *, now: datetime) -> tuple[DueMetric, ...]:
    """What should be measured in this pass."""
    rollout, canary = observed.rollout, observed.rollout.status.canary
    analysis = steps.current_analysis(rollout)
    if analysis is None or canary is None or not canary.loaded or not canary.step_started_at:
        return ()
    if canary.held or canary.waits_for or rollout.spec.paused or rollout.spec.abort:
        return ()
    started, step = parse_time(canary.step_started_at), rollout.status.current_step_index or 0
    model, stable = rollout.spec.model_name, rollout.status.stable_version
    results = {result.name: result for result in rollout.status.analysis if result.step == step}
    return tuple(
        DueMetric(
            metric,
            canary=names.model_version(model, canary.version),
            stable=names.model_version(model, stable) if stable is not None else "",
            since=_last(results.get(metric.name)) or started,
            begun=canary.step_started_at,
            taken=_taken(results.get(metric.name)),
        )
        for metric in analysis.metrics
        if not _is_over(results.get(metric.name)) and due_at(metric, results.get(metric.name), started) <= now
    )


def due_at(metric: Metric, result: MetricResult | None, started: datetime) -> datetime:
    """When the next measurement is to be taken."""
    last = _last(result)
    return started + parse_duration(metric.initial_delay) if last is None else last + parse_duration(metric.interval)


def record(
    analysis: Analysis, step: int, known: Sequence[MetricResult], samples: Mapping[str, Sample], *, now: datetime
) -> tuple[MetricResult, ...]:
    """The results of the current step with what was measured now, after those of the steps before."""
    before = {result.name: result for result in known if result.step == step}
    current = [
        _after(metric, before.get(metric.name) or _new(metric, step), samples.get(metric.name), now=now)
        for metric in analysis.metrics
    ]
    return (*(result for result in known if result.step != step), *current)[-KEPT_RESULTS:]


def verdict(results: Sequence[MetricResult], step: int) -> Phase:
    """What a step's metrics come to. One that runs dry must be over too, whatever it says."""
    current = [result for result in results if result.step == step]
    phases = [Phase(result.phase) for result in current if not result.dry_run]
    overall = worst(phases)
    if overall is Phase.SUCCESSFUL and any(result.phase == Phase.RUNNING for result in current):
        return Phase.RUNNING
    return overall


def explain(analysis: Analysis, results: Sequence[MetricResult], step: int, phase: Phase) -> str:
    """Which metric it was, with its numbers and its condition."""
    for metric in analysis.metrics:
        result = next((each for each in results if each.step == step and each.name == metric.name), None)
        if result is None or result.dry_run or result.phase != phase or not result.measurements:
            continue
        last = result.measurements[-1]
        if phase is Phase.ERROR:
            return (
                f"Metric {metric.name} could not be measured {result.consecutive_error} times in a row: {last.message}"
            )
        compared = f", champion {last.champion}" if last.champion else ""
        wanted = " and ".join(
            f"{word} `{text}`"
            for word, text in (("wanted", metric.success_condition), ("bad where", metric.failure_condition))
            if text
        )
        if phase is Phase.FAILED:
            counted = f"{result.failed} failed, failureLimit {metric.failure_limit}"
        else:
            counted = f"{result.inconclusive} inconclusive, inconclusiveLimit {metric.inconclusive_limit}"
        return f"Metric {metric.name} of step {step}: result {last.value or 'none'}{compared}, {wanted}; {counted}."
    return f"The analysis of step {step} is {phase.value}."


def _after(metric: Metric, result: MetricResult, sample: Sample | None, *, now: datetime) -> MetricResult:
    if sample is None or _is_over(result):
        return result
    if sample.waits:
        return result.model_copy(update={"message": sample.waits})
    values = {"result": sample.result, "champion": sample.champion, "baseline": sample.champion}
    if sample.error:
        phase, message = Phase.ERROR, sample.error
    else:
        measured = measure(Conditions(metric.success_condition, metric.failure_condition), values)
        phase, message = measured.phase, measured.message
    taken = Measurement(
        at=format_time(now),
        phase=phase.value,
        value=_text(sample.result),
        champion=_text(sample.champion),
        message=message[:256],
    )
    is_error = phase is Phase.ERROR
    counted = result.model_copy(
        update={
            "successful": result.successful + (phase is Phase.SUCCESSFUL),
            "failed": result.failed + (phase is Phase.FAILED),
            "inconclusive": result.inconclusive + (phase is Phase.INCONCLUSIVE),
            "error": result.error + is_error,
            "consecutive_error": result.consecutive_error + 1 if is_error else 0,
            "measurements": [*result.measurements, taken][-KEPT_MEASUREMENTS:],
            "message": message[:512],
        }
    )
    return counted.model_copy(update={"phase": _concluded(metric, counted).value})


def _concluded(metric: Metric, result: MetricResult) -> Phase:
    """The order of measurements does not matter, but for errors in a row."""
    phases = [
        *[Phase.FAILED] * result.failed,
        *[Phase.INCONCLUSIVE] * result.inconclusive,
        *[Phase.SUCCESSFUL] * result.successful,
        *[Phase.ERROR] * result.consecutive_error,
    ]
    limits = Limits(
        count=metric.count,
        failure=metric.failure_limit,
        inconclusive=metric.inconclusive_limit,
        consecutive_error=metric.consecutive_error_limit,
    )
    return conclude(phases, limits)


def _new(metric: Metric, step: int) -> MetricResult:
    return MetricResult(step=step, name=metric.name, dry_run=metric.dry_run)


def _is_over(result: MetricResult | None) -> bool:
    return result is not None and result.phase != Phase.RUNNING


def _taken(result: MetricResult | None) -> int:
    return 0 if result is None else result.successful + result.failed + result.inconclusive + result.error


def _last(result: MetricResult | None) -> datetime | None:
    return parse_time(result.measurements[-1].at) if result is not None and result.measurements else None


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
