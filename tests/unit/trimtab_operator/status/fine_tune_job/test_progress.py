"""From reports to progress, metrics and checkpoints."""

import pytest
from tests.support.builders import NOW, checkpoint, make_report

from trimtab_operator.api.v1alpha1.fine_tune_job import JobProgress
from trimtab_operator.state import Report
from trimtab_operator.status.fine_tune_job.progress import (
    eta_text,
    merge_checkpoints,
    merge_metrics,
    merge_rejected,
    report_progress,
)
from trimtab_trainer.contract.messages import (
    CommittedCheckpoint,
    KubeflowTrainerStatus,
    MetricValue,
    RejectedCheckpoint,
)


def test_our_own_report() -> None:
    said = {"step": 40, "totalSteps": 120, "percent": 33, "etaSeconds": 754, "loss": 1.5, "tokensPerSecond": 80.5}
    progress = report_progress(Report(1, NOW, make_report(progress=said)), JobProgress())
    assert progress == JobProgress(
        phase="Training",
        step=40,
        total_steps=120,
        percent=33,
        eta_seconds=754,
        eta="12m",
        loss=1.5,
        tokens_per_second=80.5,
        last_report_time="2026-11-21T12:00:00.000Z",
    )


@pytest.mark.parametrize(
    ("metrics", "step", "loss"),
    [
        pytest.param({"loss": "1.5", "global_step": "12"}, 12, 1.5, id="as transformers says it"),
        pytest.param({"train_loss": "2"}, 7, 2.0, id="the step stays where nothing is said"),
        pytest.param({"loss": "nan", "step": "twelve"}, 7, None, id="what is no number"),
        pytest.param({}, 7, None, id="nothing"),
    ],
)
def test_kubeflow(metrics: dict[str, str], step: int, loss: float | None) -> None:
    values = [MetricValue(name=name, value=value) for name, value in metrics.items()]
    status = KubeflowTrainerStatus(progress_percentage=10, estimated_remaining_seconds=3700, metrics=values)
    progress = report_progress(Report(1, NOW, kubeflow=status), JobProgress(step=7))
    assert (progress.step, progress.loss, progress.percent, progress.eta) == (step, loss, 10, "1h01m")


def test_eta() -> None:
    assert [eta_text(seconds) for seconds in (None, 5, 65, 2**63)] == ["", "5s", "1m", "36500d00h"]


A1_10, A1_20, A1_30 = (checkpoint(step) for step in (10, 20, 30))
A2_20 = checkpoint(20, attempt=2)


@pytest.mark.parametrize(
    ("stored", "reported", "rejected", "expected"),
    [
        pytest.param([], [A1_10], [], [A1_10], id="first"),
        pytest.param([A1_10], [], [], [A1_10], id="a report before the store was read"),
        pytest.param([A1_10], [A1_10, A1_20], [], [A1_10, A1_20], id="one more"),
        pytest.param([A1_10, A1_20], [A1_20, A1_30], [], [A1_20, A1_30], id="retention has deleted the oldest"),
        pytest.param([A1_10, A1_20], [A1_10], [], [A1_10, A1_20], id="a late report takes nothing back"),
        pytest.param([A1_20, A1_30], [A1_20], [A1_30], [A1_20], id="a rejected one is none"),
        pytest.param([A1_30], [A1_10, A2_20], [], [A1_10, A2_20], id="the newest is of the newest attempt"),
    ],
)
def test_checkpoints(
    stored: list[CommittedCheckpoint],
    reported: list[CommittedCheckpoint],
    rejected: list[CommittedCheckpoint],
    expected: list[CommittedCheckpoint],
) -> None:
    refused = [
        RejectedCheckpoint(step=one.step, attempt=one.attempt, uri=one.uri, why="bytes differ") for one in rejected
    ]
    assert merge_checkpoints(stored, reported, refused) == expected


def test_bounds() -> None:
    assert len(merge_checkpoints([], [checkpoint(step) for step in range(50)], [])) == 20
    assert merge_checkpoints([], [checkpoint(step) for step in range(50)], [])[-1].step == 49
    assert len(merge_metrics([MetricValue(name=f"m{number}", value="1") for number in range(100)])) == 64


def test_rejected_once() -> None:
    refused = RejectedCheckpoint(step=1, attempt=1, uri="s3://a", why="bytes differ")
    assert merge_rejected([refused], [refused]) == [refused]


def test_newer_metrics_outrank_older_ones() -> None:
    old, new = MetricValue(name="loss", value="2"), MetricValue(name="loss", value="1")
    assert merge_metrics([old], [new]) == [new]
