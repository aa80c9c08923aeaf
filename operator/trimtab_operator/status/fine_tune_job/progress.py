"""From a trainer's report to `status.progress`, metrics and checkpoints."""

from collections.abc import Iterable, Sequence

from trimtab_operator.api import times
from trimtab_operator.api.v1alpha1.fine_tune_job import JobProgress
from trimtab_operator.state import Report
from trimtab_trainer.contract.messages import (
    MAX_REPORTED_CHECKPOINTS,
    MAX_REPORTED_METRICS,
    CommittedCheckpoint,
    KubeflowTrainerStatus,
    MetricValue,
    Progress,
    RejectedCheckpoint,
)

_LOSS = ("loss", "train_loss")
_STEP = ("global_step", "step")


def report_progress(report: Report, before: JobProgress) -> JobProgress:
    """Progress as the trainer tells it; our own message says more than KEP-2779's."""
    if report.trainer is not None:
        said, phase = report.trainer.progress, str(report.trainer.phase)
    elif report.kubeflow is not None:
        said, phase = _kubeflow_progress(report.kubeflow, before), "Training"
    else:
        return before
    return JobProgress(
        phase=phase,
        step=said.step,
        total_steps=said.total_steps,
        epoch=said.epoch,
        percent=said.percent,
        eta_seconds=said.eta_seconds,
        eta=eta_text(said.eta_seconds),
        tokens_per_second=said.tokens_per_second,
        loss=_shown(said.loss),
        last_report_time=report.stamp,
    )


def eta_text(seconds: int | None) -> str:
    """Time to go, for humans."""
    return "" if seconds is None else times.format_duration(times.seconds(seconds))


def without_speed(progress: JobProgress) -> JobProgress:
    """While nothing trains there is no speed, and no time of arrival."""
    return progress.model_copy(update={"eta_seconds": None, "eta": "", "tokens_per_second": None})


def merge_metrics(*sources: Iterable[MetricValue]) -> list[MetricValue]:
    """The newest value of each metric; later sources outrank earlier ones."""
    newest = {metric.name: metric for source in sources for metric in source}
    return list(newest.values())[-MAX_REPORTED_METRICS:]


def merge_checkpoints(
    stored: Sequence[CommittedCheckpoint],
    reported: Sequence[CommittedCheckpoint],
    rejected: Sequence[RejectedCheckpoint],
) -> list[CommittedCheckpoint]:
    """What is in the store, oldest first.

    A report lists what the store holds, so what it leaves out was deleted, except what is newer than all that it lists: that is a
    late report. A rejected checkpoint is no checkpoint.
    """
    bad = {(checkpoint.attempt, checkpoint.step) for checkpoint in rejected}
    newest = max((_place(checkpoint) for checkpoint in reported), default=(0, -1))
    late = [checkpoint for checkpoint in stored if _place(checkpoint) > newest]
    known = {
        _place(checkpoint): checkpoint for checkpoint in (*(reported or stored), *late) if _place(checkpoint) not in bad
    }
    return [known[place] for place in sorted(known)][-MAX_REPORTED_CHECKPOINTS:]


def merge_rejected(
    stored: Sequence[RejectedCheckpoint], reported: Sequence[RejectedCheckpoint]
) -> list[RejectedCheckpoint]:
    """Every checkpoint that was refused, once."""
    known = {checkpoint.uri: checkpoint for checkpoint in (*stored, *reported)}
    return list(known.values())[-MAX_REPORTED_CHECKPOINTS:]


def _place(checkpoint: CommittedCheckpoint) -> tuple[int, int]:
    return checkpoint.attempt, checkpoint.step


def _kubeflow_progress(status: KubeflowTrainerStatus, before: JobProgress) -> Progress:
    values = {metric.name: metric.value for metric in status.metrics}
    step, loss = _number(values, _STEP), _number(values, _LOSS)
    return Progress(
        step=int(step) if step is not None else before.step,
        percent=status.progress_percentage,
        eta_seconds=status.estimated_remaining_seconds,
        epoch=_number(values, ("epoch",)),
        loss=_shown(loss),
    )


def _number(values: dict[str, str], names: Sequence[str]) -> float | None:
    """A metric travels as text, and a custom trainer may write anything."""
    for name in names:
        try:
            number = float(values[name])
        except (KeyError, ValueError):
            continue
        if number - number == 0:  # neither infinite nor NaN: JSON has neither
            return number
    return None


def _shown(loss: float | None) -> float | None:
    """A loss as a column of `kubectl get` can show it; the report has all digits."""
    return None if loss is None else float(f"{loss:.5g}")
