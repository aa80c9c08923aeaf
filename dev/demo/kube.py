"""kubectl as a user runs it, and a client for what is asked again and again."""

import json
import subprocess
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import yaml
from common import StepFailedError
from kubernetes import config, dynamic
from kubernetes.dynamic.exceptions import NotFoundError
from urllib3.exceptions import HTTPError

Manifest = dict[str, Any]
T = TypeVar("T")

_AWAY = ("connection refused", "was refused", "i/o timeout", "TLS handshake timeout", "http2: ", "EOF")
_AWAY_SECONDS = 60


def kubectl(*arguments: str, stdin: str | None = None) -> str:
    """Run kubectl; what it printed. Waits for an API server that is away for a moment."""
    deadline = time.monotonic() + _AWAY_SECONDS
    while True:
        done = subprocess.run(["kubectl", *arguments], input=stdin, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return done.stdout
        if time.monotonic() > deadline or not any(sign in done.stderr for sign in _AWAY):
            # Never the input: it may be a Secret.
            raise StepFailedError(f"kubectl {' '.join(arguments)} failed: {done.stderr.strip()}")
        time.sleep(1)


def apply(*manifests: Manifest) -> None:
    """`kubectl apply` of these objects, in this order; on the server's side, so that no Secret is copied into an annotation."""
    for manifest in manifests:
        kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(manifest))


def get(kind: str, name: str, namespace: str) -> Manifest | None:
    """One object of ours, or None. Not through kubectl: what is asked every second must cost milliseconds."""
    deadline = time.monotonic() + _AWAY_SECONDS
    while True:
        try:
            found: Manifest = _resource(kind).get(name=name, namespace=namespace).to_dict()
        except NotFoundError:
            return None
        except HTTPError as error:
            if time.monotonic() > deadline:
                raise StepFailedError(f"The API server does not answer: {error}") from error
            time.sleep(1)
        else:
            return found


@cache
def _resource(kind: str) -> Any:
    client = dynamic.DynamicClient(config.new_client_from_config())
    return client.resources.get(api_version="trimtab.dev/v1alpha1", kind=kind)


def condition(thing: Manifest | None, name: str) -> Manifest:
    """One condition of an object, about its present generation; else an empty one."""
    if thing is None:
        return {}
    found: list[Manifest] = thing.get("status", {}).get("conditions", [])
    entry = next((entry for entry in found if entry["type"] == name), {})
    is_current = entry.get("observedGeneration", thing["metadata"]["generation"]) == thing["metadata"]["generation"]
    return entry if is_current else {}


def is_true(thing: Manifest | None, name: str) -> bool:
    """Whether a condition holds."""
    return bool(condition(thing, name).get("status") == "True")


def wait_for(look: Callable[[], T | None], *, what: str, seconds: float) -> T:
    """The first true answer, asked for again and again until the time is over."""
    deadline = time.monotonic() + seconds
    while True:
        if found := look():
            return found
        if time.monotonic() > deadline:
            raise StepFailedError(f"Not within {seconds:.0f} s: {what}")
        time.sleep(1)


def load(file: Path, replacements: dict[str, str]) -> dict[str, Manifest]:
    """The objects of a YAML file by kind, after replacing words of its text."""
    text = file.read_text(encoding="utf-8")
    for old, new in replacements.items():
        text = text.replace(old, new)
    return {document["kind"]: document for document in yaml.safe_load_all(text) if document}
