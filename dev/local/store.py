"""The S3 server: versitygw on plain files, reached under one URL by the host and by pods."""

import json
import secrets
import shutil
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import processes
from paths import STATE, write

BUCKET = "trimtab"
PREFIX = "trimtab"
REGION = "us-east-1"
_PORT = 7070
_DATA = STATE / "store"
_CREDENTIALS = STATE / "store-credentials.json"


def credentials() -> dict[str, str]:
    """The root credentials, made at random once."""
    if not _CREDENTIALS.exists():
        made = {
            "AWS_ACCESS_KEY_ID": f"trimtab{secrets.token_hex(6)}",
            "AWS_SECRET_ACCESS_KEY": secrets.token_urlsafe(30),
        }
        write(_CREDENTIALS, json.dumps(made), mode=0o600)
    known: dict[str, str] = json.loads(_CREDENTIALS.read_text())
    return known


def environment(address: str) -> dict[str, str]:
    """What a client needs to reach the store at this address."""
    return {
        "AWS_ENDPOINT_URL": f"http://{address}:{_PORT}",
        **credentials(),
        "AWS_REGION": REGION,
        "TRIMTAB_BUCKET": BUCKET,
        "TRIMTAB_PREFIX": PREFIX,
    }


def is_ours(endpoint: str, access_key: str | None) -> bool:
    """Whether this is the store that `make env` exported, now or before its credentials were made anew."""
    known = json.loads(_CREDENTIALS.read_text())["AWS_ACCESS_KEY_ID"] if _CREDENTIALS.exists() else None
    return access_key == known or (endpoint.startswith("http://10.") and endpoint.endswith(f":{_PORT}"))


def up(address: str, folder: Path, *, wrap: Callable[..., Sequence[str | Path]]) -> None:
    """Start the store with its bucket; `wrap` says in which network."""
    (_DATA / BUCKET).mkdir(parents=True, exist_ok=True)
    known = credentials()
    processes.ensure(
        "versitygw",
        wrap(folder / "versitygw", "--port", f"{address}:{_PORT}", "--region", REGION, "--quiet", "posix", _DATA),
        # In the environment, not among the arguments, which every user of the machine can read.
        env={"ROOT_ACCESS_KEY": known["AWS_ACCESS_KEY_ID"], "ROOT_SECRET_KEY": known["AWS_SECRET_ACCESS_KEY"]},
    )
    processes.wait_until(lambda: _listens(address), name="versitygw", seconds=30)


def _listens(address: str) -> bool:
    try:
        with socket.create_connection((address, _PORT), timeout=1):
            return True
    except OSError:
        return False


def forget() -> None:
    """Remove what an earlier cluster stored: a new one knows nothing of it, and its names would clash."""
    shutil.rmtree(_DATA, ignore_errors=True)


def down() -> None:
    """Stop the store; its files stay until the next cluster is made."""
    processes.stop("versitygw")
