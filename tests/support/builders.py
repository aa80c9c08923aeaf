"""Objects for tests of the pure rooms: a job, its profiles, what is observed of them, and a fixed clock."""

from datetime import UTC, datetime, timedelta
from typing import Any

from tests.support.jobs import merged
from tests.support.manifests import smallest

from trimtab_operator.api.times import format_time
from trimtab_operator.api.v1alpha1 import FineTuneJob, ModelVersion, StorageProfile, TrainingProfile
from trimtab_operator.settings import Settings
from trimtab_operator.state import Manifest, ObservedJob
from trimtab_trainer.contract.messages import (
    CommittedCheckpoint,
    MetricValue,
    PublishedModel,
    TerminationMessage,
    TrainerReport,
)

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
UID = "5f0c1d2e-0000-4000-8000-000000000001"
SETTINGS = Settings(status_ca="-----BEGIN CERTIFICATE-----\n")
SHA = "0" * 64


def after(seconds: float) -> datetime:
    """So many seconds after NOW."""
    return NOW + timedelta(seconds=seconds)


def make_job(
    *, name: str = "tone", status: dict[str, Any] | None = None, generation: int = 1, **spec: Any
) -> FineTuneJob:
    """The smallest job; keyword arguments (camelCase, as in YAML) replace or extend parts of its spec."""
    body = smallest("FineTuneJob")
    body["metadata"] |= {"name": name, "uid": UID, "generation": generation, "creationTimestamp": format_time(NOW)}
    body["spec"] = merged(body["spec"], spec)
    body["status"] = status or {}
    return FineTuneJob.parse(body)


def make_profile(name: str = "cpu-small", **spec: Any) -> TrainingProfile:
    """A small CPU profile."""
    base = {
        "image": "registry.example/trainer:1",
        "resources": {"requests": {"cpu": "2", "memory": "4Gi"}, "limits": {"memory": "4Gi"}},
        "scratchSize": "10Gi",
    }
    return TrainingProfile.parse({"kind": "TrainingProfile", "metadata": {"name": name}, "spec": merged(base, spec)})


def make_storage(name: str = "default", **spec: Any) -> StorageProfile:
    """A store whose credentials are in a Secret."""
    body = smallest("StorageProfile")
    body["metadata"]["name"] = name
    body["spec"] = merged(body["spec"], spec)
    return StorageProfile.parse(body)


def make_version(number: int = 1, *, status: dict[str, Any] | None = None, **spec: Any) -> ModelVersion:
    """A version of `support-tone`."""
    body = smallest("ModelVersion")
    body["metadata"] |= {"name": f"support-tone-v{number}", "uid": f"version-{number}"}
    body["spec"] = merged(body["spec"], {"version": number} | spec)
    body["status"] = status or {}
    return ModelVersion.parse(body)


def observed(job: FineTuneJob | None = None, **fields: Any) -> ObservedJob:
    """What is observed of a job that nothing has happened to yet; keyword arguments are fields of ObservedJob."""
    known: dict[str, Any] = {
        "job": job or make_job(),
        "profile": make_profile(),
        "storage": make_storage(),
        "base_version": None,
        "trainer_jobs": (),
        "pods": (),
        "report": None,
        "version": None,
    }
    return ObservedJob(**(known | fields))


def checkpoint(step: int, *, attempt: int = 1) -> CommittedCheckpoint:
    """A committed checkpoint."""
    uri = f"s3://trimtab/demo/tone/{UID}/manifests/s{step:09d}-a{attempt}.json"
    return CommittedCheckpoint(
        step=step, attempt=attempt, uri=uri, manifest_sha256=SHA, bytes=10, time="2026-11-21T12:00:00Z"
    )


def make_report(phase: str = "Training", *, attempt: int = 1, **fields: Any) -> TrainerReport:
    """What a trainer says; keyword arguments are camelCase, as on the wire."""
    return TrainerReport.model_validate({"attempt": attempt, "phase": phase} | fields)


def published(version: int = 1, name: str = "support-tone") -> PublishedModel:
    """A model in the store."""
    return PublishedModel(
        name=f"{name}-v{version}",
        version=version,
        uri=f"s3://trimtab/demo/models/{name}/{version}",
        manifest_sha256=SHA,
        size_bytes=1000,
        files=3,
        format="peftAdapter",
        base_model_digest=f"sha256:{SHA}",
        config_digest=f"sha256:{SHA}",
        step=60,
        verified_at="2026-11-21T12:01:00Z",
    )


def success(**fields: Any) -> TerminationMessage:
    """Last words of a trainer that published its model."""
    known: dict[str, Any] = {
        "reason": "Succeeded",
        "step": 60,
        "metrics": [MetricValue(name="eval_loss", value="0.5")],
        "last_checkpoint": checkpoint(60),
        "published": published(),
        "report_uri": "s3://trimtab/demo/tone/reports/report.md",
    }
    return TerminationMessage(**(known | fields))


def pod_of(job: Manifest, *, index: int = 0) -> Manifest:
    """A pod that the Job controller has just made."""
    metadata = job["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{metadata['name']}-{index}-abcde",
            "namespace": metadata["namespace"],
            "uid": f"pod-{metadata['name']}-{index}",
            "resourceVersion": "1",
            "creationTimestamp": metadata["creationTimestamp"],
            "labels": job["spec"]["template"]["metadata"]["labels"] if "template" in job["spec"] else {},
            "annotations": {"batch.kubernetes.io/job-completion-index": str(index)},
            "ownerReferences": [{"kind": "Job", "name": metadata["name"], "uid": metadata["uid"], "controller": True}],
        },
        "spec": {},
        "status": {"phase": "Pending", "conditions": []},
    }
