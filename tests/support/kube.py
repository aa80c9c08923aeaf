"""A cluster as tests see it: its objects through the `kubernetes` package; kubectl where a test is about what a user types."""

import json
import math
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import cache
from http import HTTPStatus
from typing import Any, TypeVar

Manifest = dict[str, Any]
T = TypeVar("T")

_OURS = "trimtab.dev/v1alpha1"
_KINDS = {
    "ftj": (_OURS, "FineTuneJob"),
    "mdv": (_OURS, "ModelVersion"),
    "mro": (_OURS, "ModelRollout"),
    "tprof": (_OURS, "TrainingProfile"),
    "deployments": ("apps/v1", "Deployment"),
    "events": ("v1", "Event"),
    "jobs": ("batch/v1", "Job"),
    "namespaces": ("v1", "Namespace"),
    "pods": ("v1", "Pod"),
    "secrets": ("v1", "Secret"),
}
"""What tests ask for, as kubectl spells it."""


class KubectlError(AssertionError):
    """kubectl said no; the text is what it printed."""


def kubectl(*args: str, stdin: str | None = None, timeout: float = 120) -> str:
    """Run kubectl; what it printed. Raises KubectlError with stderr when it fails."""
    done = subprocess.run(["kubectl", *args], input=stdin, capture_output=True, text=True, timeout=timeout, check=False)
    if done.returncode != 0:
        raise KubectlError(done.stderr.strip() or done.stdout.strip())
    return done.stdout


def kubectl_apply(*manifests: Manifest) -> None:
    """`kubectl apply`, as a user does it."""
    kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)}))


def apply(*manifests: Manifest) -> None:
    """Server-side apply of these objects, one after the other; unknown fields are refused."""
    for manifest in manifests:
        _resource(manifest["apiVersion"], manifest["kind"]).server_side_apply(
            body=manifest,
            namespace=manifest["metadata"].get("namespace"),
            field_manager="trimtab-tests",
            force_conflicts=True,
            query_params=[("fieldValidation", "Strict")],
        )


def get(kind: str, name: str, namespace: str = "") -> Manifest | None:
    """One object, or None."""
    from kubernetes.dynamic.exceptions import NotFoundError  # noqa: PLC0415 - see _client

    try:
        found: Manifest = _resource(*_KINDS[kind]).get(name=name, namespace=namespace or None).to_dict()
    except NotFoundError:
        return None
    return found


def items(kind: str, namespace: str, selector: str = "") -> list[Manifest]:
    """All objects of a kind in a namespace."""
    listed = _resource(*_KINDS[kind]).get(namespace=namespace, label_selector=selector or None)
    found: list[Manifest] = listed.to_dict()["items"]
    return found


def delete(kind: str, name: str, namespace: str = "") -> None:
    """Ask for the end of one object; one that is not there is fine."""
    from kubernetes.dynamic.exceptions import NotFoundError  # noqa: PLC0415 - see _client

    try:
        _resource(*_KINDS[kind]).delete(name=name, namespace=namespace or None)
    except NotFoundError:
        return


def wait_for(
    kind: str,
    name: str,
    namespace: str,
    look: Callable[[Manifest | None], T | None],
    *,
    what: str,
    timeout: float = 180,
) -> T:
    """The first true value of `look` at the object as it is, and then each time it changes; None: it is not there.

    Raises:
        AssertionError: not within `timeout` seconds; the message has what was last seen.
    """
    seen: Manifest | None = None
    for seen in _changes(kind, name, namespace, until=time.monotonic() + timeout):
        if found := look(seen):
            return found
    raise AssertionError(f"not within {timeout:.0f} s: {what}; last seen: {summary(seen)}")


def wait_for_condition(kind: str, name: str, namespace: str, type_: str, *, timeout: float = 180) -> Manifest:
    """The object, once a condition of it holds."""

    def look(thing: Manifest | None) -> Manifest | None:
        return thing if thing and condition(thing, type_)["status"] == "True" else None

    return wait_for(kind, name, namespace, look, what=f"{type_} of {kind} {name}", timeout=timeout)


def _changes(kind: str, name: str, namespace: str, *, until: float) -> Iterator[Manifest | None]:
    from kubernetes.client import ApiException  # noqa: PLC0415 - see _client

    resource = _resource(*_KINDS[kind])
    while (left := until - time.monotonic()) > 0:
        listed = resource.get(namespace=namespace, field_selector=f"metadata.name={name}").to_dict()
        yield next(iter(listed["items"]), None)
        version = listed["metadata"]["resourceVersion"]
        try:
            for event in resource.watch(
                namespace=namespace, name=name, resource_version=version, timeout=math.ceil(left)
            ):
                yield None if event["type"] == "DELETED" else event["raw_object"]
        except ApiException as error:
            if error.status != HTTPStatus.GONE:  # the server has forgotten this version: list again
                raise


def summary(thing: Manifest | None) -> str:
    """State and conditions, as a person would read them."""
    if thing is None:
        return "it is not there"
    status = thing.get("status", {})
    said = [f"{one['type']}={one['status']} {one['reason']}: {one['message']}" for one in status.get("conditions", [])]
    return "\n  ".join([f"state {status.get('state') or 'unknown'}", *said])


@cache
def _client() -> Any:
    # Imported here: the trainer's tests have this module for `eventually`, in an image without the package.
    from kubernetes import config, dynamic  # noqa: PLC0415

    return dynamic.DynamicClient(config.new_client_from_config())


@cache
def _resource(api_version: str, kind: str) -> Any:
    return _client().resources.get(api_version=api_version, kind=kind)


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


def wait_for_event(namespace: str, reason: str, *, timeout: float = 30) -> Manifest:
    """An Event of this reason; the operator sends it once the status that tells the same is written."""

    def look() -> Manifest | None:
        return next((event for event in items("events", namespace) if event["reason"] == reason), None)

    return eventually(look, what=f"an Event {reason} in {namespace}", timeout=timeout, every=0.5)


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
