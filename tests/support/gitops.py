"""Objects of every kind in every state, as the operator writes them: its own passes make them here."""

from dataclasses import dataclass
from typing import Any

from tests.support.builders import (
    NOW,
    SETTINGS,
    make_job,
    make_profile,
    make_report,
    make_storage,
    make_version,
    success,
)
from tests.support.cluster import Manifest
from tests.support.rollout_world import RolloutWorld, serving, stepping
from tests.support.world import World

from trimtab_operator.api.common import ApiObject
from trimtab_operator.api.crd import custom_resource_definition
from trimtab_operator.api.v1alpha1 import FineTuneJob, Reason
from trimtab_operator.state import ObservedProfile, ObservedStorage, ObservedVersion, Plan, Problem
from trimtab_operator.status.model_version.compose import compute_status as version_status
from trimtab_operator.status.storage_profile.compose import compute_status as storage_status
from trimtab_operator.status.training_profile.compose import compute_status as profile_status
from trimtab_trainer.contract.exit_codes import ExitCode, TrainerReason
from trimtab_trainer.contract.gates import Gate

TEN, WAIT = {"setWeight": 10}, {"pause": {}}
PROBLEM = (Problem(Reason.SPEC_INVALID, "spec.scratchSize: no."),)


@dataclass(frozen=True)
class Recorded:
    """One object, and what GitOps tools must make of it."""

    name: str
    body: Manifest
    kstatus: str
    argo: str


def _object(known: ApiObject, status: Manifest, *, generation: int = 1) -> Manifest:
    body: Manifest = known.to_json()
    body["metadata"]["generation"] = generation
    return {**body, "kind": type(known).resource.kind, "apiVersion": "trimtab.dev/v1alpha1", "status": status}


def _job(world: World) -> Manifest:
    return _object(world.job, world.wire, generation=world.job.metadata.generation)


def _rollout(world: RolloutWorld) -> Manifest:
    return _object(world.rollout, world.wire, generation=world.generation)


def new_object() -> Manifest:
    """As the API server stores it before anybody has looked at it: the CRD's default status."""
    schema = custom_resource_definition(FineTuneJob)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return _object(make_job(), schema["properties"]["status"]["default"])


def jobs() -> list[Recorded]:
    """A FineTuneJob's life."""
    running = World().settle().advance(1).run().advance(6)
    running.say(make_report(progress={"step": 3, "totalSteps": 10}))
    suspended = World(make_job(suspend=True)).settle()
    queued = World(make_job(runPolicy={"queueName": "team"})).settle()
    failed = World().settle().advance(1).run().advance(6).fail(ExitCode.DATASET_INVALID)
    done = World().settle().advance(1).run().advance(6)
    done.reserve()
    done.advance(6).succeed(success())
    edited = _job(World().settle())
    edited["metadata"]["generation"] += 1
    return [
        Recorded("job, just created", new_object(), "InProgress", "Progressing"),
        Recorded("job, starting", _job(World().settle()), "InProgress", "Progressing"),
        Recorded("job, queued", _job(queued), "InProgress", "Progressing"),
        Recorded("job, running", _job(running), "InProgress", "Progressing"),
        Recorded("job, suspended", _job(suspended), "InProgress", "Suspended"),
        Recorded("job, refused", _job(World(make_job(output={"sign": True})).settle()), "Failed", "Degraded"),
        Recorded("job, failed", _job(failed), "Failed", "Degraded"),
        Recorded("job, complete", _job(done), "Current", "Healthy"),
        Recorded("job, a spec not seen yet", edited, "InProgress", "Progressing"),
    ]


def rollouts() -> list[Recorded]:
    """A ModelRollout's life."""
    starting = RolloutWorld(version=1)
    starting.following = False
    refused = RolloutWorld(version=1)
    refused.refused = {1: TrainerReason.SIGNATURE_INVALID}
    loading = serving(strategy={"canary": {"steps": [TEN, WAIT]}})
    loading.following = False
    waiting = RolloutWorld(version=9).settle()
    return [
        Recorded("rollout, starting", _rollout(starting.settle()), "InProgress", "Progressing"),
        Recorded("rollout, waits for a version", _rollout(waiting), "InProgress", "Progressing"),
        Recorded("rollout, stable", _rollout(serving()), "Current", "Healthy"),
        Recorded("rollout, a version on its way", _rollout(loading.change(version=2)), "InProgress", "Progressing"),
        Recorded("rollout, paused", _rollout(stepping(TEN, WAIT)), "InProgress", "Suspended"),
        Recorded("rollout, aborted", _rollout(stepping(TEN, WAIT).act("abort")), "Failed", "Degraded"),
        Recorded("rollout, promoted", _rollout(stepping(TEN, WAIT).act("promote-full")), "Current", "Healthy"),
    ]


def versions() -> list[Recorded]:
    """A ModelVersion's states."""
    gate = Gate(metric="accuracy", success_condition="result >= 0.9")
    failed_gate = {"name": "accuracy", "metric": gate.metric, "source": "test", "phase": "Failed", "holdsBack": True}

    def recorded(name: str, problems: tuple[Problem, ...], expected: tuple[str, str], **spec: Any) -> Recorded:
        version = make_version(**spec)
        world = ObservedVersion(version=version, storage=make_storage(), rollouts=(), profile=make_profile())
        status = version_status(world, problems, Plan(), settings=SETTINGS, now=NOW).status
        status["observedGeneration"] = 1
        return Recorded(name, _object(version, status), *expected)

    return [
        recorded("version, promotable", (), ("Current", "Healthy")),
        recorded("version, not promotable", (), ("Current", "Healthy"), gates=[failed_gate]),
        recorded("version, its store is unknown", PROBLEM, ("Failed", "Degraded")),
    ]


def profiles() -> list[Recorded]:
    """Both profiles, well and not."""
    found = []
    for problems, expected in (((), ("Current", "Healthy")), (PROBLEM, ("Failed", "Degraded"))):
        training, storage = make_profile(), make_storage()
        outcome = profile_status(ObservedProfile(training), problems, Plan(), settings=SETTINGS, now=NOW)
        found.append(("training profile", _object(training, outcome.status), *expected))
        outcome = storage_status(ObservedStorage(storage, None), problems, Plan(), settings=SETTINGS, now=NOW)
        found.append(("storage profile", _object(storage, outcome.status), *expected))
    for _, body, _, _ in found:
        body["status"]["observedGeneration"] = 1
    return [Recorded(f"{name}, {argo}", body, status, argo) for name, body, status, argo in found]


ALL = [*jobs(), *rollouts(), *versions(), *profiles()]
