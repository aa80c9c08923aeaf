"""kubectl as a user runs it, with answers as Python values."""

import json
import subprocess
import time
from collections.abc import Callable
from typing import Any, TypeVar

Manifest = dict[str, Any]
T = TypeVar("T")


class KubectlError(AssertionError):
    """kubectl said no; the text is what it printed."""


def kubectl(*args: str, stdin: str | None = None, timeout: float = 120) -> str:
    """Run kubectl; what it printed. Raises KubectlError with stderr when it fails."""
    done = subprocess.run(["kubectl", *args], input=stdin, capture_output=True, text=True, timeout=timeout, check=False)
    if done.returncode != 0:
        raise KubectlError(done.stderr.strip() or done.stdout.strip())
    return done.stdout


def apply(*manifests: Manifest) -> None:
    """`kubectl apply` of these objects."""
    kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)}))


def get(kind: str, name: str, namespace: str = "") -> Manifest | None:
    """One object, or None."""
    scope = ["-n", namespace] if namespace else []
    text = kubectl("get", kind, name, *scope, "-o", "json", "--ignore-not-found")
    return json.loads(text) if text.strip() else None


def items(kind: str, namespace: str, selector: str = "") -> list[Manifest]:
    """All objects of a kind in a namespace."""
    chosen = ["-l", selector] if selector else []
    found: list[Manifest] = json.loads(kubectl("get", kind, "-n", namespace, *chosen, "-o", "json"))["items"]
    return found


def condition(thing: Manifest, type_: str) -> Manifest:
    """One condition; an empty one when it is not there."""
    found: list[Manifest] = thing.get("status", {}).get("conditions", [])
    return next((entry for entry in found if entry["type"] == type_), {"status": "absent", "reason": "", "message": ""})


def is_true(kind: str, name: str, namespace: str, type_: str) -> bool:
    """Whether a condition of an object holds."""
    return bool(condition(get(kind, name, namespace) or {}, type_)["status"] == "True")


def eventually(look: Callable[[], T | None], *, what: str, timeout: float = 180, every: float = 2) -> T:
    """The first true value of `look`, asked again and again until the deadline."""
    deadline = time.monotonic() + timeout
    while True:
        if found := look():
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:.0f} s: {what}")
        time.sleep(every)


def story(namespace: str) -> str:
    """Everything a person would look at first when something went wrong in a namespace."""
    parts = [
        ("get", "ftj,mdv,mro,jobs,pods,deployments", "-n", namespace, "-o", "wide"),
        ("get", "events", "-n", namespace, "--sort-by=.lastTimestamp"),
        (
            "get",
            "ftj",
            "-n",
            namespace,
            "-o",
            "jsonpath={range .items[*]}{.metadata.name}{'\\n'}{.status.conditions}{'\\n'}{end}",
        ),
        ("logs", "-n", namespace, "-l", "trimtab.dev/managed=true", "--tail=30", "--prefix", "--ignore-errors"),
        (
            "logs",
            "-n",
            "trimtab-system",
            "-l",
            "app.kubernetes.io/name=trimtab",
            "--tail=60",
            "--prefix",
            "--ignore-errors",
        ),
    ]
    texts = []
    for part in parts:
        try:
            texts.append(f"$ kubectl {' '.join(part)}\n{kubectl(*part)}")
        except (KubectlError, subprocess.TimeoutExpired) as error:
            texts.append(f"$ kubectl {' '.join(part)}\n{error}")
    return "\n".join(texts)
