"""What is kept of an object, and the terms under which it can be found again."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from trimtab_operator import names
from trimtab_operator.state import Manifest

_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_METADATA = (
    "name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp", "labels",
    "annotations", "ownerReferences", "finalizers",
)  # fmt: skip
_WORTH_PACKING = 1024
_JOB_SPEC = ("suspend", "completions", "parallelism", "backoffLimit", "activeDeadlineSeconds")
_POD_SPEC = ("nodeName", "priorityClassName")
_POD_STATUS = (
    "phase",
    "reason",
    "message",
    "conditions",
    "startTime",
    "podIP",
    "containerStatuses",
    "initContainerStatuses",
)


@dataclass(frozen=True, slots=True)
class Stored:
    """One object in the Store. The body is kept as packed JSON: a fiftieth of the memory of dictionaries."""

    kind: str
    namespace: str
    name: str
    uid: str
    version: int
    owner: str
    """uid of the controller that owns it; empty without one."""
    terms: tuple[str, ...]
    """What it is indexed by, besides name and owner."""
    raw: bytes
    deleting: bool = False
    """It has a deletionTimestamp: only finalizers keep it."""
    held: bool = False
    """One of them is ours: there is something to do before it goes."""

    @classmethod
    def of(cls, body: Manifest) -> "Stored":
        """Take what matters from an object of the API server."""
        metadata = body["metadata"]
        kept = _trim(body)
        return cls(
            kind=body["kind"],
            namespace=metadata.get("namespace", ""),
            name=metadata["name"],
            uid=metadata["uid"],
            version=int(metadata["resourceVersion"]),
            owner=controller_uid(metadata),
            terms=tuple(_terms(body)),
            raw=_pack(orjson.dumps(kept)),
            deleting=bool(metadata.get("deletionTimestamp")),
            held=names.RECLAIM_FINALIZER in (metadata.get("finalizers") or ()),
        )

    def body(self) -> Manifest:
        """The object as a fresh dictionary, which the caller may change."""
        packed = self.raw[:1] != b"{"
        value: Manifest = orjson.loads(zlib.decompress(self.raw) if packed else self.raw)
        return value


def _pack(raw: bytes) -> bytes:
    """Objects of ours are mostly repetition: a fifth of the memory, for some microseconds."""
    return zlib.compress(raw, 1) if len(raw) > _WORTH_PACKING else raw


def controller_uid(metadata: Manifest) -> str:
    """The uid of the owner that controls the object."""
    return next((str(owner["uid"]) for owner in metadata.get("ownerReferences") or () if owner.get("controller")), "")


def _trim(body: Manifest) -> Manifest:
    kept = {"apiVersion": body.get("apiVersion", ""), "kind": body["kind"]}
    metadata = {key: body["metadata"][key] for key in _METADATA if key in body["metadata"]}
    if _LAST_APPLIED in (metadata.get("annotations") or {}):
        metadata["annotations"] = {key: value for key, value in metadata["annotations"].items() if key != _LAST_APPLIED}
    kept["metadata"] = metadata
    spec, status = body.get("spec") or {}, body.get("status") or {}
    match body["kind"]:
        case "Job":
            spec = {key: spec[key] for key in _JOB_SPEC if key in spec}
        case "Pod":
            spec = {key: spec[key] for key in _POD_SPEC if key in spec}
            status = {key: status[key] for key in _POD_STATUS if key in status}
    return {**kept, "spec": spec, "status": status}


# ── Terms: how a change finds the objects that must look at it ──


def jobs_of_model(namespace: str, model: str) -> str:
    """FineTuneJobs that publish versions of a model."""
    return f"FineTuneJob|model|{namespace}|{model}"


def versions_of_model(namespace: str, model: str) -> str:
    """ModelVersions of a model."""
    return f"ModelVersion|model|{namespace}|{model}"


def rollouts_of_model(namespace: str, model: str) -> str:
    """ModelRollouts of a model."""
    return f"ModelRollout|model|{namespace}|{model}"


def jobs_on_version(namespace: str, name: str) -> str:
    """FineTuneJobs that will start from a ModelVersion, each attempt anew, or made it."""
    return f"FineTuneJob|version|{namespace}|{name}"


def pods_of_rollout(namespace: str, rollout: str) -> str:
    """Pods labelled with a rollout's name. Anybody can label a pod: check its owner too."""
    return f"Pod|rollout|{namespace}|{rollout}"


AT_REST = ("Complete", "Failed")
"""States of FineTuneJobs that need nothing any more."""
UNRESOLVED_JOBS = "FineTuneJob|unresolved"
"""FineTuneJobs that have not yet taken their profiles."""
STATE = "FineTuneJob|state|"
"""Prefix of the term that carries a FineTuneJob's state."""
CHECKPOINT = "FineTuneJob|checkpoint|"
"""Prefix of the term that carries the time of a running job's newest checkpoint."""


def _terms(body: Manifest) -> Iterator[str]:
    namespace = body["metadata"].get("namespace", "")
    spec: dict[str, Any] = body.get("spec") or {}
    match body["kind"]:
        case "FineTuneJob":
            yield from _job_terms(namespace, spec, body.get("status") or {})
        case "ModelVersion":
            yield versions_of_model(namespace, spec.get("modelName", ""))
        case "ModelRollout":
            yield rollouts_of_model(namespace, spec.get("modelName", ""))
        case "Pod":
            rollout = (body["metadata"].get("labels") or {}).get(names.ROLLOUT_LABEL)
            if rollout:
                yield pods_of_rollout(namespace, rollout)


def _job_terms(namespace: str, spec: dict[str, Any], status: dict[str, Any]) -> Iterator[str]:
    yield jobs_of_model(namespace, (spec.get("output") or {}).get("modelName", ""))
    if not (status.get("resolved") or {}).get("profileName"):
        yield UNRESOLVED_JOBS
    if status.get("state") not in AT_REST:
        for named in models_of(spec):
            if named.startswith("modelversion://"):
                yield jobs_on_version(namespace, named.removeprefix("modelversion://"))
    if status.get("modelVersion"):
        yield jobs_on_version(namespace, status["modelVersion"])
    yield STATE + str(status.get("state") or "Pending")
    if status.get("state") == "Running" and status.get("lastCheckpoint"):
        yield CHECKPOINT + str(status["lastCheckpoint"].get("time", ""))


def models_of(spec: dict[str, Any]) -> Iterator[str]:
    """URIs of the models that a job reads: its base model, and a reward model."""
    yield (spec.get("model") or {}).get("uri", "")
    for objective in (spec.get("objective") or {}).values():
        for term in (objective or {}).get("rewards") or ():
            yield (term.get("rewardModel") or {}).get("uri", "")
