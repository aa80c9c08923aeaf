"""Running programs so that a person sees what happens, how long it usually takes and where the log is."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from paths import LOGS

_LINE_EVERY = timedelta(seconds=15)
_TAIL_LINES = 30


class StepFailedError(RuntimeError):
    """A step failed; the message says which and what to look at."""


def say(text: str) -> None:
    """One line for the person, on stderr: stdout belongs to `make env`."""
    print(text, file=sys.stderr, flush=True)


class _Ticker:
    """Says what is going on and for how long: steps may run side by side, a terminal has one last line."""

    def __init__(self) -> None:
        self._steps: dict[str, float] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def begin(self, label: str, usually: str) -> None:
        with self._lock:
            self._announce(f"-> {label}" + (f" (usually {usually})" if usually else ""))
            self._steps[label] = time.monotonic()
            if self._thread is None:
                self._thread = threading.Thread(target=self._tick, daemon=True)
                self._thread.start()

    def end(self, label: str, *, failed: bool) -> None:
        with self._lock:
            took = time.monotonic() - self._steps.pop(label)
            name = f": {label}" if self._steps else ""
            self._announce(f"   {'FAILED' if failed else 'done'} after {took:.1f} s{name}")

    @staticmethod
    def _announce(line: str) -> None:
        print(("\r\033[K" if sys.stderr.isatty() else "") + line, file=sys.stderr, flush=True)

    def _tick(self) -> None:
        on_terminal = sys.stderr.isatty()
        while True:
            time.sleep(1.0 if on_terminal else _LINE_EVERY.total_seconds())
            with self._lock:
                now = time.monotonic()
                running = "   ".join(f"{label} ... {now - began:.0f} s" for label, began in self._steps.items())
                if running and on_terminal:
                    width = os.get_terminal_size(sys.stderr.fileno()).columns - 4
                    print(f"\r\033[K   {running[:width]}", end="", file=sys.stderr, flush=True)
                elif running:
                    say(f"   {running}")


_TICKER = _Ticker()


@contextmanager
def step(label: str, usually: str = "") -> Iterator[None]:
    """Announce a step, tick while it runs, say how long it took."""
    _TICKER.begin(label, usually)
    failed = True
    try:
        yield
        failed = False
    finally:
        _TICKER.end(label, failed=failed)


def side_by_side(*tasks: Callable[[], object]) -> None:
    """Run tasks at the same time; all are waited for, the first failure is raised."""
    with ThreadPoolExecutor(len(tasks)) as pool:
        futures = [pool.submit(task) for task in tasks]
    for future in futures:
        future.result()


def run(
    argv: Sequence[str | Path],
    *,
    log: str,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> None:
    """Run a program with its output in a log file; raise with the log's tail when it fails."""
    LOGS.mkdir(parents=True, exist_ok=True)
    path = LOGS / f"{log}.log"
    with path.open("ab") as out:
        out.write(f"\n$ {' '.join(map(str, argv))}\n".encode())
        out.flush()
        done = subprocess.run(
            argv,
            stdout=out,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            cwd=cwd,
            check=False,
            env={**os.environ, **(env or {})},
        )
    if done.returncode != 0:
        tail = "\n".join(path.read_text(errors="replace").splitlines()[-_TAIL_LINES:])
        raise StepFailedError(f"{argv[0]} failed with exit code {done.returncode}; the end of {path}:\n{tail}")


def output_of(argv: Sequence[str | Path], *, cwd: Path | None = None, check: bool = True) -> str:
    """Run a short program and return what it printed."""
    done = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, cwd=cwd, check=False)
    if check and done.returncode != 0:
        raise StepFailedError(
            f"{' '.join(map(str, argv))} failed with exit code {done.returncode}: {done.stderr.strip()}"
        )
    return done.stdout


def succeeds(argv: Sequence[str | Path]) -> bool:
    """Whether a short program exits with 0."""
    return subprocess.run(argv, capture_output=True, stdin=subprocess.DEVNULL, check=False).returncode == 0
