"""A real S3 server for tests and benchmarks: versitygw over a folder (https://github.com/versity/versitygw, `make up` builds it)."""

import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.object_store import ACCESS_KEY, BUCKET, SECRET_KEY

_START_SECONDS = 20.0


def find_versitygw() -> Path | None:
    """The binary: `$TRIMTAB_VERSITYGW`, on PATH, or the newest that the local cluster's tools have built."""
    named = os.environ.get("TRIMTAB_VERSITYGW") or shutil.which("versitygw")
    if named:
        return Path(named)
    built = (Path(os.environ.get("TRIMTAB_CACHE", Path.home() / ".cache/trimtab")) / "bin").glob(
        "versitygw-*/versitygw"
    )
    return max(built, key=lambda path: path.stat().st_mtime, default=None)


@contextmanager
def versitygw(directory: Path, binary: Path) -> Iterator[str]:
    """Run a server over a folder, with one bucket, on a free port; its URL."""
    (directory / BUCKET).mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        binary,
        "--access",
        ACCESS_KEY,
        "--secret",
        SECRET_KEY,
        "--port",
        f"127.0.0.1:{port}",
        "--quiet",
        "posix",
        directory,
    ]
    with (directory.parent / "versitygw.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _wait_until_it_answers(f"http://127.0.0.1:{port}", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=20)


def _wait_until_it_answers(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=1)
        except urllib.error.HTTPError as answer:
            answer.close()  # It wants a signature: it is there.
            return
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"versitygw did not answer at {url}")
