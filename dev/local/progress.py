"""Running programs so that a person sees what happens, how long it usually takes and where the log is."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
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


def _ticker(label: str, finished: threading.Event, started: float) -> None:
    on_terminal = sys.stderr.isatty()
    pause = 1.0 if on_terminal else _LINE_EVERY.total_seconds()
    while not finished.wait(pause):
        line = f"   {label} ... {time.monotonic() - started:.0f} s"
        print(f"\r{line}" if on_terminal else line, end="" if on_terminal else "\n", file=sys.stderr, flush=True)


@contextmanager
def step(label: str, usually: str = "") -> Iterator[None]:
    """Announce a step, tick while it runs, say how long it took."""
    say(f"-> {label}" + (f" (usually {usually})" if usually else ""))
    started = time.monotonic()
    finished = threading.Event()
    thread = threading.Thread(target=_ticker, args=(label, finished, started), daemon=True)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr)
    say(f"   done in {time.monotonic() - started:.1f} s")


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
