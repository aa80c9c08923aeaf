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
from tests.support.manifests import smallest
from tests.support.rollout_world import RolloutWorld, serving, stepping
from tests.support.rollouts import VERIFIED
from tests.support.rollouts import make_version as make_served_version
from tests.support.version_world import VersionWorld
from tests.support.world import World

from trimtab_operator.api.common import ApiObject
from trimtab_operator.api.crd import custom_resource_definition
from trimtab_operator.api.v1alpha1 import KINDS, ModelRollout, Reason
from trimtab_operator.names import RECLAIM_FINALIZER
from trimtab_operator.state import ObservedProfile, ObservedStorage, Plan, Problem, Sample
from trimtab_operator.status.storage_profile.compose import compute_status as storage_status
from trimtab_operator.status.training_profile.compose import compute_status as profile_status
from trimtab_trainer.contract.exit_codes import ExitCode, TrainerReason

TEN, WAIT = {"setWeight": 10}, {"pause": {}}
PROBLEM = (Problem(Reason.SPEC_INVALID, "spec.scratchSize: no."),)
DELETED_AT = "2026-11-21T12:00:00Z"
WELL, MOVES, STUCK = ("Current", "Healthy"), ("InProgress", "Progressing"), ("Failed", "Degraded")
RESTS, GOES = ("InProgress", "Suspended"), ("Terminating", "Progressing")


@dataclass(frozen=True)
class Recorded:
    """One object, and what GitOps tools must make of it."""

    name: str
    body: Manifest
    kstatus: str
    argo: str

    @property
    def state(self) -> str:
        """The word for people; empty where its kind has none."""
        return str(self.body["status"].get("state", ""))


def _object(known: ApiObject, status: Manifest, *, generation: int = 1) -> Manifest:
    body: Manifest = known.to_json()
    body["metadata"]["generation"] = generation
    return {**body, "kind": type(known).resource.kind, "apiVersion": "trimtab.dev/v1alpha1", "status": status}


def _job(world: World) -> Manifest:
    return _object(world.job, world.wire, generation=world.job.metadata.generation)


def _rollout(world: RolloutWorld) -> Manifest:
    return _object(world.rollout, world.wire, generation=world.generation)


def _version(world: VersionWorld) -> Manifest:
    return _object(world.version, world.version.status.to_json())


def new_objects() -> list[Recorded]:
    """As the API server stores them before anybody has looked: the CRDs' default status."""
    found = []
    for kind in KINDS:
        schema = custom_resource_definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        name = kind.resource.kind
        body = _object(kind.parse(smallest(name)), schema["properties"]["status"]["default"])
        found.append(Recorded(f"{name}, just created", body, *MOVES))
    return found


def _running(**spec: Any) -> World:
    return World(make_job(**spec)).settle().advance(1).run().advance(6)


def _says(phase: str) -> World:
    return _running().say(make_report(phase, progress={"step": 3, "totalSteps": 10}))


def _done() -> World:
    world = _running()
    world.reserve()
    return world.advance(6).succeed(success())


def jobs() -> list[Recorded]:
    """A FineTuneJob's life."""
    edited = _job(World().settle())
    edited["metadata"]["generation"] += 1
    late = _running(runPolicy={"activeDeadlineSeconds": 60}).advance(61)
    worlds: list[tuple[str, World, tuple[str, str]]] = [
        ("starting", World().settle(), MOVES),
        ("queued", World(make_job(runPolicy={"queueName": "team"})).settle(), MOVES),
        ("running", _says("Training"), MOVES),
        ("evaluating", _says("Evaluating"), MOVES),
        ("publishing", _says("Publishing"), MOVES),
        ("suspending", _running().change(suspend=True), MOVES),
        ("suspended", World(make_job(suspend=True)).settle(), RESTS),
        ("stopping", late, MOVES),
        ("retrying", _running().fail(ExitCode.STORAGE_UNAVAILABLE), MOVES),
        ("refused", World(make_job(output={"sign": True})).settle(), STUCK),
        ("failed", _running().fail(ExitCode.DATASET_INVALID), STUCK),
        ("complete", _done(), WELL),
    ]
    found = [Recorded(f"job, {name}", _job(world), *expected) for name, world, expected in worlds]
    return [*found, Recorded("job, a spec not seen yet", edited, *MOVES)]


def _refused(version: int, world: RolloutWorld) -> RolloutWorld:
    world.refused = {version: TrainerReason.SIGNATURE_INVALID}
    return world


def _held_back() -> RolloutWorld:
    """Its only version failed a gate."""
    world = RolloutWorld(version=1)
    failed = {"type": "Promotable", "status": "False", "reason": "GateFailed", "lastTransitionTime": DELETED_AT}
    world.versions[1] = make_served_version(1, conditions=[*VERIFIED, failed])
    return world.settle()


def _unheard(world: RolloutWorld, **spec: Any) -> RolloutWorld:
    """The servers do not follow."""
    world.following = False
    return world.change(**spec) if spec else world.settle()


def _analysed(sample: Sample) -> RolloutWorld:
    metric = {
        "name": "errors",
        "provider": {"server": {"metric": "errorRate"}},
        "successCondition": "result <= 0.05",
        "failureCondition": "result > 0.5",
        "consecutiveErrorLimit": 0,
    }
    world = serving(strategy={"canary": {"steps": [TEN, {"analysis": {"metrics": [metric]}}]}})
    world.samples["errors"] = sample
    return world.change(version=2)


def rollouts() -> list[Recorded]:
    """A ModelRollout's life."""
    steps = {"canary": {"steps": [TEN, WAIT]}}
    worlds: list[tuple[str, RolloutWorld, tuple[str, str]]] = [
        ("starting", _unheard(RolloutWorld(version=1)), MOVES),
        ("waits for a version", RolloutWorld(version=9).settle(), MOVES),
        ("waits for a version beside one that serves", serving().change(version=9), MOVES),
        ("its version is not promotable", _held_back(), STUCK),
        ("its version is refused", _refused(1, RolloutWorld(version=1)).settle(), STUCK),
        ("its version is refused, another one serves", _refused(2, serving()).change(version=2), STUCK),
        ("stable", serving(), WELL),
        ("a version on its way", _unheard(serving(strategy=steps), version=2), MOVES),
        ("measuring", _analysed(Sample(waits="too few requests")), MOVES),
        ("paused", stepping(TEN, WAIT), RESTS),
        ("inconclusive", _analysed(Sample(result=0.2)), RESTS),
        ("cannot be measured", _analysed(Sample(error="no route")), RESTS),
        ("rolled back", _analysed(Sample(result=0.9)), STUCK),
        ("aborted", stepping(TEN, WAIT).act("abort"), STUCK),
        ("promoted", stepping(TEN, WAIT).act("promote-full"), WELL),
    ]
    return [Recorded(f"rollout, {name}", _rollout(world), *expected) for name, world, expected in worlds]


TRAINED: dict[str, Any] = {
    "source": {"name": "tone", "uid": "1", "attempt": 1, "step": 60},
    "verifiedAt": "2026-11-21T12:00:00Z",
}
IMPORT: dict[str, Any] = {"artifact": None, "importFrom": {"uri": "s3://lake/adapter", "format": "peftAdapter"}}
EVALUATION: dict[str, Any] = {
    "gates": [{"metric": "accuracy", "successCondition": "result >= 0.9"}],
    "data": {"train": [{"uri": "s3://data/train.jsonl"}], "test": [{"uri": "s3://data/test.jsonl"}]},
}


def _gated(phase: str) -> VersionWorld:
    gate = {"name": "accuracy", "metric": "accuracy", "source": "test", "phase": phase, "holdsBack": True}
    return VersionWorld(make_version(**TRAINED, gates=[gate])).look()


def _read_back(**found: Any) -> VersionWorld:
    return VersionWorld(make_version(**TRAINED)).annotate(verify="1").end(**found)


def _deleted(**observed: Any) -> VersionWorld:
    """With its bytes, which lie at its own place."""
    place = {"artifact": {"uri": "s3://trimtab/demo/models/support-tone/1"}, "reclaimPolicy": "Delete"}
    version = make_version(**TRAINED, **place)
    metadata = {"finalizers": [RECLAIM_FINALIZER], "deletion_timestamp": DELETED_AT}
    version = version.model_copy(update={"metadata": version.metadata.model_copy(update=metadata)})
    return VersionWorld(version, **observed).look().look()


def versions() -> list[Recorded]:
    """A ModelVersion's states."""
    user = ModelRollout.parse(smallest("ModelRollout"))
    changed = {"holds": False, "message": "adapter_model.safetensors has sha256 aa, and its manifest says bb."}
    tampered = _read_back(words={"reason": "DigestMismatch", "verification": changed}, code=16, complete=False)
    no_adapter = {"reason": "ModelInvalid", "message": "it is no adapter of peft."}
    broken = VersionWorld(make_version(**IMPORT)).look().end(words=no_adapter, code=14, complete=False)
    well = {"reason": "Succeeded", "verification": {"holds": True, "message": "3 files, 12 bytes."}}
    denied = {"reason": "StorageAccessDenied", "message": "no."}
    worlds: list[tuple[str, VersionWorld, tuple[str, str]]] = [
        ("promotable", VersionWorld(make_version(**TRAINED)).look(), WELL),
        ("not promotable", _gated("Failed"), WELL),
        ("inconclusive", _gated("Inconclusive"), WELL),
        ("not measured", _gated("Error"), WELL),
        ("read back", VersionWorld(make_version(**TRAINED)).annotate(verify="1"), MOVES),
        ("read back and well", _read_back(words=well), WELL),
        ("tampered with", tampered, STUCK),
        ("importing", VersionWorld(make_version(**IMPORT)).look(), MOVES),
        ("not imported", broken, STUCK),
        ("measured", VersionWorld(make_version(evaluation=EVALUATION)).look(), MOVES),
        ("nobody could read it", _read_back(words=denied, code=21, complete=False), WELL),
        ("its profile is unknown", VersionWorld(make_version(), profile=None).look(), STUCK),
        ("its store is unknown", VersionWorld(make_version(), storage=None).look(), STUCK),
        ("deleted while it is used", _deleted(rollouts=(user,)), GOES),
        ("its bytes are being deleted", _deleted(), GOES),
        ("its bytes cannot be deleted", _deleted().end(words=denied, code=21, complete=False), ("Terminating", "Degraded")),
    ]  # fmt: skip
    return [Recorded(f"version, {name}", _version(world), *expected) for name, world, expected in worlds]


def profiles() -> list[Recorded]:
    """Both profiles, well and not."""
    found = []
    for problems, expected in (((), WELL), (PROBLEM, STUCK)):
        training, storage = make_profile(), make_storage()
        outcome = profile_status(ObservedProfile(training), problems, Plan(), settings=SETTINGS, now=NOW)
        found.append(("training profile", _object(training, outcome.status), *expected))
        outcome = storage_status(ObservedStorage(storage, None), problems, Plan(), settings=SETTINGS, now=NOW)
        found.append(("storage profile", _object(storage, outcome.status), *expected))
    for _, body, _, _ in found:
        body["status"]["observedGeneration"] = 1
    return [Recorded(f"{name}, {argo}", body, status, argo) for name, body, status, argo in found]


ALL = [*new_objects(), *jobs(), *rollouts(), *versions(), *profiles()]
