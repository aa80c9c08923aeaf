"""What leaves the process while it runs: TrainerReports, `metrics.jsonl`, the reservation of a version. Nobody else writes."""

import json
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import requests
from tenacity import RetryError, Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from trimtab_trainer import logs
from trimtab_trainer.contract import mounts
from trimtab_trainer.contract.data_checks import is_of_group
from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.messages import (
    CommittedCheckpoint,
    MetricValue,
    TrainerReport,
    VersionReply,
    VersionRequest,
)
from trimtab_trainer.errors import TrainerError

POST_INTERVAL_SECONDS = 2.0
POST_TIMEOUT_SECONDS = 5.0
RESERVATION_PATIENCE_SECONDS = 600.0
"""How long publishing waits for an operator that is down or being upgraded."""
PERMANENT_STATUS = frozenset({400, 413, 422})
"""Answers that asking again cannot change."""


class StatusEndpoint:
    """The operator's HTTPS endpoint. Token and CA are read at each post: the kubelet renews them."""

    def __init__(self, url: str, environment: Mapping[str, str] = os.environ) -> None:
        self.url = url
        self._token_file = environment.get(mounts.STATUS_TOKEN_VARIABLE, "")
        self._ca_file = environment.get(mounts.STATUS_CA_VARIABLE, "")

    def post(self, body: dict[str, Any], *, timeout: float = POST_TIMEOUT_SECONDS) -> Any:
        """POST JSON; the answer's JSON, or None where it has none.

        Raises:
            requests.RequestException, OSError: no answer, or an answer that is no success.
        """
        headers = {"Authorization": f"Bearer {Path(self._token_file).read_text().strip()}"} if self._token_file else {}
        answer = requests.post(self.url, json=body, headers=headers, timeout=timeout, verify=self._ca_file or True)
        answer.raise_for_status()
        return answer.json() if answer.content else None


class Reporter:
    """Posts the newest TrainerReport from a thread of its own. Failures never disturb training."""

    def __init__(self, report: TrainerReport, endpoint: StatusEndpoint | None) -> None:
        self._report = report
        self._endpoint = endpoint
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._changed = False
        self._urgent = False
        self._closing = False
        self._failing = False
        self.committed: Callable[[], Sequence[CommittedCheckpoint]] = tuple
        """The checkpoints that are in the store now; a new one is reported at once."""
        self._thread = threading.Thread(target=self._run, name="reporter", daemon=True)
        if endpoint is not None:
            self._thread.start()

    @property
    def report(self) -> TrainerReport:
        """The newest report."""
        with self._lock:
            return self._report

    def update(self, *, urgent: bool = False, **changes: Any) -> None:
        """Change some fields; `urgent` posts at once instead of within two seconds."""
        with self._lock:
            self._report = self._report.model_copy(update=changes)
            self._changed = True
            self._urgent |= urgent
        if urgent:
            self._wake.set()

    def close(self, timeout: float = 2 * POST_TIMEOUT_SECONDS) -> None:
        """Post what is newest, and stop."""
        self._closing = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _run(self) -> None:
        posted_at = 0.0
        while not self._closing:
            self._wake.wait(POST_INTERVAL_SECONDS / 4)
            self._wake.clear()
            self._take_commits()
            is_time = time.monotonic() - posted_at >= POST_INTERVAL_SECONDS
            if self._urgent or (self._changed and is_time):
                posted_at = time.monotonic()
                self._post()
        self._take_commits()
        self._post()

    def _take_commits(self) -> None:
        committed = list(self.committed())
        if committed != self.report.checkpoints:
            self.update(urgent=True, checkpoints=committed)

    def _post(self) -> None:
        with self._lock:
            body, self._changed, self._urgent = self._report.to_json(), False, False
        try:
            if self._endpoint is not None:
                self._endpoint.post(body)
            self._failing = False
        except (requests.RequestException, OSError, ValueError) as error:
            self._changed = True  # the next round tries again with what is newest then
            if not self._failing:
                logs.warning("report_failed", error=type(error).__name__, detail=str(error)[:200])
            self._failing = True


def reserve_version(
    endpoint: StatusEndpoint, *, attempt: int, taken: Sequence[int], patience: float = RESERVATION_PATIENCE_SECONDS
) -> VersionReply:
    """The version number to publish under. Asks again for as long as the operator may be away.

    Raises:
        TrainerError: TrainerError where there is no answer within `patience` seconds, or a refusal.
    """
    body = VersionRequest(attempt=attempt, taken=list(taken)).to_json()
    retrying = Retrying(
        wait=wait_random_exponential(multiplier=0.5, max=15),
        stop=stop_after_delay(patience),
        retry=retry_if_exception(_may_succeed_later),
    )
    try:
        return VersionReply.model_validate(retrying(endpoint.post, body), extra="ignore")
    except (RetryError, requests.RequestException, OSError, ValueError) as error:
        cause = error.last_attempt.exception() if isinstance(error, RetryError) else error
        raise TrainerError(
            TrainerReason.TRAINER_ERROR,
            f"The operator reserved no version for the model within {patience:g} s: {cause}",
        ) from error


def _may_succeed_later(error: BaseException) -> bool:
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return error.response.status_code not in PERMANENT_STATUS
    return isinstance(error, requests.RequestException | OSError)


def metric_values(metrics: Mapping[str, float], limit: int) -> list[MetricValue]:
    """The wire form of metrics: six significant digits. Where there are too many, those of single groups stay out."""
    first = sorted(metrics.items(), key=lambda item: is_of_group(item[0]))[:limit]
    return [MetricValue(name=name, value=f"{value:.6g}") for name, value in first]


def metrics_lines(history: Sequence[Mapping[str, float]]) -> bytes:
    """`metrics.jsonl`: one JSON object a line."""
    return b"".join(json.dumps(line, allow_nan=False).encode() + b"\n" for line in history)


class MetricsUploader:
    """Keeps `metrics.jsonl` in the store up to date with the checkpoints, off the loop's path."""

    def __init__(self, put: Callable[[bytes], object]) -> None:
        self._put = put
        self._thread: threading.Thread | None = None

    def upload(self, history: Sequence[Mapping[str, float]], *, wait: bool = False) -> None:
        """Write the whole file; skipped while the previous upload runs, unless `wait`."""
        if not history:
            return
        if self._thread is not None:
            if wait:
                self._thread.join()
            elif self._thread.is_alive():
                return
        content = metrics_lines(history)
        self._thread = threading.Thread(target=self._upload, args=(content,), name="metrics", daemon=True)
        self._thread.start()
        if wait:
            self._thread.join()

    def _upload(self, content: bytes) -> None:
        try:
            self._put(content)
        except TrainerError as error:
            logs.warning("metrics_upload_failed", error=str(error))
