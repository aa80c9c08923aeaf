"""Steady load on a rollout from a pod of its own: every answer is one line of its log."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support import kube
from tests.support.kube import Manifest

QUESTION = "Which department?"
PROGRAM = """
import json, sys, threading, time, urllib.request
url, model, question = sys.argv[1:]
body = json.dumps({"model": model, "messages": [{"role": "user", "content": question}], "max_tokens": 64, "temperature": 0}).encode()
def ask():
    while True:
        started = time.time()
        line = {"at": started}
        try:
            request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=60) as answer:
                document = json.load(answer)
                line |= {"code": answer.status, "version": answer.headers["x-trimtab-version"]}
                line |= {"tokens": document["usage"]["completion_tokens"]}
        except Exception as error:
            line |= {"code": getattr(error, "code", 0), "error": repr(error)}
        sys.stdout.write(json.dumps(line | {"seconds": round(time.time() - started, 3)}) + "\\n")
        sys.stdout.flush()
        time.sleep(max(0, 0.4 - (time.time() - started)))
for _ in range(3):
    threading.Thread(target=ask).start()
"""


@contextmanager
def steady_load(namespace: str, model: str, image: str) -> Iterator[None]:
    """About seven requests a second at the rollout's Service while the block runs."""
    url = f"http://{model}.{namespace}.svc/v1/chat/completions"
    kube.apply(_pod(namespace, image, ["python", "-c", PROGRAM, url, model, QUESTION]))
    kube.eventually(lambda: answers(namespace), what="first answer under load", timeout=60, every=1)
    yield
    kube.kubectl("delete", "pod", "load", "-n", namespace, "--wait=false")


def answers(namespace: str) -> list[Manifest]:
    """Every answer so far, oldest first."""
    try:
        text = kube.kubectl("logs", "load", "-n", namespace)
    except kube.KubectlError:
        return []
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def _pod(namespace: str, image: str, command: list[str]) -> Manifest:
    container = {
        "name": "load",
        "image": image,
        "command": command,
        "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "load", "namespace": namespace},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 1, "restartPolicy": "Never"},
    }
