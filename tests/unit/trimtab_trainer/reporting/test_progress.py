"""What leaves the process: reports, versions, and the wire protocol of `transformers`' own callback."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.support.http_server import answering

from trimtab_trainer.contract import mounts
from trimtab_trainer.contract.messages import CommittedCheckpoint, KubeflowStatusUpdate, Progress, TrainerReport
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.reporting.progress import (
    MetricsUploader,
    Reporter,
    StatusEndpoint,
    metric_values,
    metrics_lines,
    reserve_version,
)


@dataclass
class Operator:
    """An HTTP server that answers what it is told, in turn; the last answer stays."""

    answers: list[tuple[int, Any]] = field(default_factory=lambda: [(200, {})])
    bodies: list[dict[str, Any]] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    url: str = ""
    received: threading.Condition = field(default_factory=threading.Condition)

    def wait_for(self, count: int) -> None:
        """Until so many requests have come."""
        with self.received:
            assert self.received.wait_for(lambda: len(self.bodies) >= count, timeout=30)


@contextmanager
def serving(operator: Operator) -> Iterator[Operator]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with operator.received:
                operator.bodies.append(body)
                operator.tokens.append(self.headers.get("Authorization", ""))
                status, answer = operator.answers.pop(0) if len(operator.answers) > 1 else operator.answers[0]
                operator.received.notify_all()
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None: ...

    with answering(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as url:
        operator.url = f"{url}/report"
        yield operator


@pytest.fixture
def operator() -> Iterator[Operator]:
    with serving(Operator()) as running:
        yield running


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("first\n")
    return path


def endpoint(operator: Operator, token_file: Path) -> StatusEndpoint:
    return StatusEndpoint(operator.url, {mounts.STATUS_TOKEN_VARIABLE: str(token_file)})


def checkpoint(step: int) -> CommittedCheckpoint:
    return CommittedCheckpoint(step=step, attempt=1, uri="s3://x", manifest_sha256="0", bytes=1, time="")


def test_the_newest_report_is_posted_with_the_newest_token(operator: Operator, token_file: Path) -> None:
    reporter = Reporter(TrainerReport(attempt=1, phase="Preparing"), endpoint(operator, token_file))
    reporter.update(urgent=True, phase="Training")
    operator.wait_for(1)
    token_file.write_text("second")
    for step in range(100):
        reporter.update(progress=Progress(step=step))
    reporter.close()
    assert TrainerReport.model_validate(operator.bodies[-1]).progress.step == 99
    assert len(operator.bodies) < 10
    assert (operator.tokens[0], operator.tokens[-1]) == ("Bearer first", "Bearer second")


def test_a_commit_is_reported_at_once(operator: Operator, token_file: Path) -> None:
    reporter = Reporter(TrainerReport(attempt=1, phase="Training"), endpoint(operator, token_file))
    reporter.committed = lambda: [checkpoint(5)]
    operator.wait_for(1)
    reporter.close()
    assert operator.bodies[0]["checkpoints"][0]["step"] == 5


def test_an_operator_that_is_away_disturbs_nothing_and_gets_the_newest_later(
    operator: Operator, token_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trimtab_trainer.reporting.progress.POST_INTERVAL_SECONDS", 0.02)
    operator.answers[:] = [(503, {}), (503, {}), (200, {})]
    reporter = Reporter(TrainerReport(attempt=1, phase="Training"), endpoint(operator, token_file))
    reporter.update(urgent=True, progress=Progress(step=7))
    operator.wait_for(3)
    reporter.close()
    assert operator.bodies[2]["progress"]["step"] == 7


def test_without_an_endpoint_nothing_is_posted() -> None:
    reporter = Reporter(TrainerReport(attempt=1, phase="Training"), None)
    reporter.update(urgent=True, phase="Finished")
    reporter.close()
    assert reporter.report.phase == "Finished"


@pytest.mark.usefixtures("fast_retries")
@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        pytest.param([(200, {"name": "tone-v3", "version": 3})], 3, id="at once"),
        pytest.param(
            [(503, {}), (409, {}), (401, {}), (200, {"name": "tone-v4", "version": 4})],
            4,
            id="after failures that pass",
        ),
        pytest.param([(200, {"name": "tone-v5", "version": 5, "later": 1})], 5, id="by a later release"),
        pytest.param([(422, {})], None, id="a refusal"),
        pytest.param([(200, {"name": "x"})], None, id="an answer that is none"),
    ],
)
def test_a_version_is_reserved(
    answers: list[tuple[int, Any]], expected: int | None, operator: Operator, token_file: Path
) -> None:
    operator.answers[:] = answers
    if expected is None:
        with pytest.raises(TrainerError, match="reserved no version"):
            reserve_version(endpoint(operator, token_file), attempt=2, taken=[1])
    else:
        assert reserve_version(endpoint(operator, token_file), attempt=2, taken=[1]).version == expected
    assert operator.bodies[-1] == {"attempt": 2, "taken": [1]}


@pytest.mark.usefixtures("fast_retries")
def test_patience_with_an_absent_operator_ends(token_file: Path) -> None:
    with serving(Operator()) as gone:
        away = endpoint(gone, token_file)
    with pytest.raises(TrainerError, match="reserved no version"):
        reserve_version(away, attempt=1, taken=[], patience=0.1)


def test_metrics_of_single_groups_give_way_to_those_of_all() -> None:
    groups = {f"test_accuracy[region={number}]": 0.5 for number in range(9)}
    found = metric_values({"test_accuracy": 0.25, **groups, "general_loss": 1.0}, 3)
    assert [metric.name for metric in found] == ["test_accuracy", "general_loss", "test_accuracy[region=0]"]


def test_metrics_lines_are_json_lines() -> None:
    assert metrics_lines([{"step": 1, "loss": 0.5}, {"step": 2}]) == b'{"step": 1, "loss": 0.5}\n{"step": 2}\n'


def test_metrics_are_uploaded_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []
    uploader = MetricsUploader(written.append)
    uploader.upload([{"step": 1}])
    uploader.upload([{"step": 1}, {"step": 2}], wait=True)
    assert written[-1] == b'{"step": 1}\n{"step": 2}\n'
    del monkeypatch


def test_transformers_own_callback_speaks_what_the_contract_parses(
    operator: Operator, token_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers.integrations import KubeflowCallback  # noqa: PLC0415 - slow

    monkeypatch.setenv(mounts.STATUS_URL_VARIABLE, operator.url)
    monkeypatch.setenv(mounts.STATUS_TOKEN_VARIABLE, str(token_file))
    callback, control = KubeflowCallback(), SimpleNamespace()
    state = SimpleNamespace(is_world_process_zero=True, max_steps=40, global_step=0, epoch=0.0)
    callback.on_train_begin(None, state, control)
    state.global_step, state.epoch = 10, 0.25
    callback.on_log(None, state, control, logs={"loss": 2.5, "grad_norm": 1.0, "text": "no number"})
    callback._last_update_time = 0.0  # its own throttle waits five seconds
    callback.on_step_end(None, state, control)
    callback.on_train_end(None, state, control)
    begun, going, ended = (
        KubeflowStatusUpdate.model_validate(body, extra="ignore").trainer_status for body in operator.bodies
    )
    assert (begun.progress_percentage, going.progress_percentage, ended.progress_percentage) == (0, 25, 100)
    assert {metric.name: metric.value for metric in going.metrics} == {
        "loss": "2.5",
        "grad_norm": "1.0",
        "current_step": "10",
        "total_steps": "40",
        "current_epoch": "0.25",
    }
    assert going.estimated_remaining_seconds is not None
    assert going.last_updated_time
