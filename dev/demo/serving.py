"""Asking a served model through its Service, as a program outside of the cluster would."""

import json
import re
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from common import StepFailedError

_ANSWER_TOKENS = 24
_SECONDS = 300


@contextmanager
def port_forward(service: str, namespace: str) -> Iterator[str]:
    """`kubectl port-forward` to a free local port while the block runs; gives the server's address."""
    # The name of the port, not its number: the Service may choose the number.
    command = ["kubectl", "--namespace", namespace, "port-forward", f"service/{service}", ":http"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            first = process.stdout.readline() if process.stdout else ""
            found = re.search(r"127\.0\.0\.1:(\d+)", first)
            if found is None:
                raise StepFailedError(f"kubectl port-forward to service/{service} failed: {first.strip()}")
            yield f"http://127.0.0.1:{found[1]}"
        finally:
            process.terminate()


def model_names(server: str) -> list[str]:
    """What the server offers."""
    with urllib.request.urlopen(f"{server}/v1/models", timeout=_SECONDS) as response:  # noqa: S310 - our own address
        return [model["id"] for model in json.load(response)["data"]]


def ask(server: str, model: str, messages: list[dict[str, str]]) -> str:
    """The answer of a chat completion without randomness."""
    body = {"model": model, "messages": messages, "max_tokens": _ANSWER_TOKENS, "temperature": 0}
    request = urllib.request.Request(  # noqa: S310 - our own address
        f"{server}/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS) as response:  # noqa: S310 - our own address
            return str(json.load(response)["choices"][0]["message"]["content"])
    except urllib.error.HTTPError as error:
        said = error.read().decode(errors="replace")[:500]
        raise StepFailedError(f"The server answered {error.code}: {said}") from error
    except OSError as error:
        raise StepFailedError(f"The server did not answer within {_SECONDS} s: {error}") from error
