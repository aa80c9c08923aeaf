"""Observed rollouts for unit tests: what is there, said in as few words as possible."""

from typing import Any

from tests.support.manifests import changed, smallest
from tests.support.times import NOW

from trimtab_operator.api.v1alpha1 import ModelRollout, ModelVersion, StorageProfile, TrainingProfile
from trimtab_operator.plan.model_rollout.compose import make_plan
from trimtab_operator.settings import Settings
from trimtab_operator.state import Manifest, ObservedRollout, Plan

SETTINGS = Settings(trainer_image="trainer:1")
VERIFIED = [
    {"type": "Verified", "status": "True", "reason": "BytesVerified", "lastTransitionTime": "2026-01-01T00:00:00Z"}
]


def make_rollout(changes: dict[str, Any] | None = None, *, stable: int | None = None) -> ModelRollout:
    body = changed(
        smallest("ModelRollout"), {"metadata.name": "tone", "metadata.uid": "uid-1", "metadata.generation": 3}
    )
    body = changed(body, changes or {})
    if stable is not None:
        body["status"] = {"stableVersion": stable}
    return ModelRollout.parse(body)


def make_version(
    number: int = 1, changes: dict[str, Any] | None = None, *, conditions: list[Manifest] | None = None
) -> ModelVersion:
    body = changed(
        smallest("ModelVersion"),
        {
            "metadata.name": f"support-tone-v{number}",
            "spec.version": number,
            "spec.artifact.manifestSha256": f"{number:064}",
        },
    )
    body = changed(body, changes or {})
    body["status"] = {"conditions": VERIFIED if conditions is None else conditions}
    return ModelVersion.parse(body)


def make_profile(changes: dict[str, Any] | None = None) -> TrainingProfile:
    base = changed(
        smallest("TrainingProfile"), {"metadata.name": "cpu", "spec.serverResources": {"requests": {"cpu": "1"}}}
    )
    return TrainingProfile.parse(changed(base, changes or {}))


def make_storage(changes: dict[str, Any] | None = None) -> StorageProfile:
    base = changed(smallest("StorageProfile"), {"metadata.name": "default"})
    return StorageProfile.parse(changed(base, changes or {}))


def observed(**parts: Any) -> ObservedRollout:
    """A rollout of version 1 with everything it needs and no servers yet."""
    whole = {
        "rollout": make_rollout(),
        "versions": (make_version(1), make_version(2)),
        "profile": make_profile(),
        "storage": make_storage(),
        "stable_profile": make_profile(),
        "stable_storage": make_storage(),
        "deployment": None,
        "service": None,
        "pods": (),
    }
    return ObservedRollout(**(whole | parts))


def plan_for(world: ObservedRollout) -> Plan:
    return make_plan(world, (), settings=SETTINGS, now=NOW)


def planned(world: ObservedRollout, kind: str) -> Manifest:
    """The child of that kind that the plan applies."""
    return next(manifest for manifest in plan_for(world).apply if manifest["kind"] == kind)


def live_deployment(world: ObservedRollout, *, ready: int = 0, total: int | None = None, **status: Any) -> Manifest:
    """What the API server holds once this world's plan was applied: `ready` of its servers are ready."""
    manifest = planned(world, "Deployment")
    replicas = manifest["spec"]["replicas"]
    counts = {
        "observedGeneration": 1,
        "replicas": replicas if total is None else total,
        "updatedReplicas": replicas,
        "readyReplicas": ready,
        "availableReplicas": ready,
    }
    return {**manifest, "metadata": {**manifest["metadata"], "generation": 1}, "status": counts | status}


def pod(world: ObservedRollout, name: str = "tone-server-abc-1", *, ready: bool = False, **container: Any) -> Manifest:
    """A server of this world's plan."""
    template = planned(world, "Deployment")["spec"]["template"]["metadata"]
    return {
        "metadata": {"name": name, "labels": template["labels"], "annotations": template["annotations"]},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "containerStatuses": [{"name": "server", "restartCount": 0, **container}],
        },
    }


def unschedulable_pod(world: ObservedRollout) -> Manifest:
    manifest = pod(world)
    message = "0/1 nodes are available: 1 Insufficient memory."
    manifest["status"] = {
        "phase": "Pending",
        "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}],
    }
    return manifest


def going(manifest: Manifest) -> Manifest:
    return {**manifest, "metadata": {**manifest["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}}
