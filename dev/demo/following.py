"""Follows a FineTuneJob until it rests, and shows what it does: one line that moves, or lines now and then in a log."""

import sys
import time

from common import StepFailedError
from kube import Manifest, condition, get, is_true, kubectl

_LINE_EVERY_SECONDS = 10
_TAIL = "40"


def follow(job: str, namespace: str, *, seconds: float) -> Manifest:
    """Wait until the job is complete; show state, step, loss, speed and remaining time on the way."""
    deadline = time.monotonic() + seconds
    display = _Display()
    while True:
        seen = get("FineTuneJob", job, namespace) or {}
        display.show(_line(seen), state=str(seen.get("status", {}).get("state", "")))
        if is_true(seen, "Complete"):
            display.end()
            return seen
        if is_true(seen, "Failed") or time.monotonic() > deadline:
            display.end()
            raise StepFailedError(_why(seen, job, namespace))
        time.sleep(3)


def _line(job: Manifest) -> str:
    """For example `Running  step 12 of 50  loss 0.291  163 tokens/s  1m20s to go`."""
    status = job.get("status", {})
    progress = status.get("progress", {})
    parts = [f"{status.get('state') or 'Pending':<11}"]
    if progress.get("totalSteps"):
        parts.append(f"step {progress.get('step', 0)} of {progress['totalSteps']}")
    if progress.get("loss") is not None:
        parts.append(f"loss {progress['loss']:.3f}")
    if progress.get("tokensPerSecond"):
        parts.append(f"{progress['tokensPerSecond']:.0f} tokens/s")
    if progress.get("eta"):
        parts.append(f"{progress['eta']} to go")
    if last := status.get("lastCheckpoint"):
        parts.append(f"checkpoint of step {last['step']} committed")
    return "  ".join(parts)


def _why(job: Manifest, name: str, namespace: str) -> str:
    """What a person would look at first."""
    failed = condition(job, "Failed")
    texts = [f"{entry['type']}={entry['status']} {entry['reason']}: {entry['message']}" for entry in _conditions(job)]
    reason = f"{failed.get('reason')}: {failed.get('message')}" if failed else "it did not end in time"
    selector = f"trimtab.dev/fine-tune-job={name}"
    logs = kubectl("logs", "--namespace", namespace, "--selector", selector, "--tail", _TAIL, "--ignore-errors")
    return f"FineTuneJob {namespace}/{name} failed: {reason}\n" + "\n".join([*texts, logs])


def _conditions(job: Manifest) -> list[Manifest]:
    found: list[Manifest] = job.get("status", {}).get("conditions", [])
    return found


class _Display:
    """A line that is written over on a terminal; elsewhere a new one at every change of state and every few seconds."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._state = ""
        self._shown_at = 0.0

    def show(self, line: str, *, state: str) -> None:
        if self._is_terminal:
            print(f"\r\033[K   {line}", end="", file=sys.stderr, flush=True)
            return
        now = time.monotonic()
        if state != self._state or now - self._shown_at >= _LINE_EVERY_SECONDS:
            self._state, self._shown_at = state, now
            print(f"   {line}", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self._is_terminal:
            print(file=sys.stderr)
