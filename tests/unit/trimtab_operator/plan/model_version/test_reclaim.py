"""A version that is deleted with its bytes: when they go, what it waits for, and every way out."""

from typing import Any

import pytest
from tests.support.builders import NOW, make_version
from tests.support.manifests import smallest
from tests.support.version_world import VersionWorld

from trimtab_operator.api.v1alpha1 import ModelRollout, ModelVersion, Reason
from trimtab_operator.names import RECLAIM_ANNOTATION, RECLAIM_FINALIZER
from trimtab_operator.state import RejectedWrite
from trimtab_trainer.contract.run_config import VersionJobConfig

OWN: dict[str, Any] = {
    "source": {"name": "tone", "uid": "1", "attempt": 1, "step": 60},
    "verifiedAt": "2026-11-21T12:00:00Z",
    "reclaimPolicy": "Delete",
}
PLACE = {"artifact": {"uri": "s3://trimtab/demo/models/support-tone/1"}}


def version(*, deleted: bool = True, annotation: str = "", finalizers: tuple[str, ...] = (RECLAIM_FINALIZER,), **spec: Any) -> ModelVersion:  # fmt: skip
    """Version 1, published at its own place, with the policy Delete."""
    made = make_version(1, **(OWN | PLACE | spec))
    metadata = {
        "finalizers": list(finalizers),
        "annotations": {RECLAIM_ANNOTATION: annotation} if annotation else {},
        "deletion_timestamp": "2026-11-21T12:00:00Z" if deleted else None,
    }
    return made.model_copy(update={"metadata": made.metadata.model_copy(update=metadata)})


def rollout(wants: int, **status: Any) -> ModelRollout:
    body = smallest("ModelRollout")
    body["spec"]["version"] = wants
    return ModelRollout.parse(body | {"status": status})


def annotated(world: VersionWorld, value: str) -> VersionWorld:
    metadata = world.version.metadata.model_copy(update={"annotations": {RECLAIM_ANNOTATION: value}})
    world.version = world.version.model_copy(update={"metadata": metadata})
    return world.look()


def deleting(**observed: Any) -> VersionWorld:
    """Two passes: one records that it begins, one makes the Job."""
    return VersionWorld(version(), **observed).look().look()


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        pytest.param(version(deleted=False, finalizers=()), True, id="Delete is kept"),
        pytest.param(version(deleted=False), None, id="and is not kept twice"),
        pytest.param(version(deleted=False, finalizers=(), reclaimPolicy="Retain"), None, id="Retain is not kept"),
        pytest.param(version(deleted=False, annotation="Retain"), False, id="the annotation takes it back"),
        pytest.param(version(deleted=False, finalizers=(), annotation="Delete # by ada", reclaimPolicy="Retain"), True, id="or asks for it"),
        pytest.param(version(deleted=False, finalizers=(), annotation="Perhaps"), True, id="a word that says nothing"),
    ],
)  # fmt: skip
def test_which_versions_are_kept_until_their_bytes_are_gone(made: ModelVersion, *, expected: bool | None) -> None:
    assert VersionWorld(made).look().plan.finalizer is expected


def test_bytes_that_somebody_else_published_are_not_ours_to_delete() -> None:
    elsewhere = {"artifact": {"uri": "s3://trimtab/other/models/support-tone/1"}}
    world = VersionWorld(version(deleted=False, finalizers=(), **elsewhere)).look()
    assert world.plan.finalizer is None
    assert world.said("Stalled") == ("True", Reason.SPEC_INVALID)
    assert "s3://trimtab/demo/models/support-tone/1" in world.message("Ready")
    assert VersionWorld(version(**elsewhere)).look().plan.finalizer is False, "it goes, and they stay"


def test_the_job_deletes_and_then_the_object_goes() -> None:
    world = VersionWorld(version()).look()
    assert world.jobs == {}, "it is recorded first"
    assert world.said("Ready") == ("False", Reason.RECLAIMING)
    world.look()
    (job,) = world.jobs.values()
    text = job["spec"]["template"]["metadata"]["annotations"]["trimtab.dev/version-job"]
    config = VersionJobConfig.model_validate_json(text)
    assert config.delete is not None
    assert (config.delete.name, config.delete.version, config.version) == ("support-tone-v1", 1, None)
    assert job["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]["memory"] == "256Mi"
    world.end(words={"reason": "Succeeded", "message": "7 objects of 9 bytes were deleted."})
    assert world.plan.finalizer is None
    assert world.said("Reclaimed") == ("True", Reason.RECLAIMED)
    assert world.look().plan.finalizer is False


def test_a_job_that_ended_well_without_a_word_has_deleted_too() -> None:
    world = deleting().end(words=None)
    world.seconds = 60
    assert world.look().said("Reclaimed") == ("True", Reason.RECLAIMED)


@pytest.mark.parametrize(
    ("observed", "names"),
    [
        pytest.param({"rollouts": (rollout(1),)}, "ModelRollout", id="wanted"),
        pytest.param({"rollouts": (rollout(2, stableVersion=1),)}, "ModelRollout", id="stable"),
        pytest.param({"rollouts": (rollout(2, canaryVersion=1),)}, "ModelRollout", id="on its way in"),
        pytest.param({"rollouts": (rollout(2, routing={"versions": [{"version": 1, "weight": 0}]}),)}, "ModelRollout", id="in a server's memory"),
        pytest.param({"dependents": ("FineTuneJob next",)}, "FineTuneJob next", id="a job starts from it"),
    ],
)  # fmt: skip
def test_what_is_used_stays_and_goes_by_itself_afterwards(observed: dict[str, Any], names: str) -> None:
    world = VersionWorld(version(), **observed).look().look()
    assert world.jobs == {}
    assert world.said("Reclaimed") == ("False", Reason.IN_USE)
    assert world.said("Ready")[0] == "True", "it goes on serving"
    assert world.said("Stalled")[0] == "False"
    assert names in world.message("Reclaimed")
    world._observed |= {"rollouts": (rollout(2, stableVersion=2),), "dependents": ()}
    assert len(world.look().look().jobs) == 1


def test_what_has_begun_is_carried_through() -> None:
    world = VersionWorld(version()).look()
    world._observed["rollouts"] = (rollout(1),)
    assert len(world.look().jobs) == 1


def test_a_failure_says_how_out_and_is_tried_again() -> None:
    world = deleting()
    (first,) = world.jobs
    world.end(words={"reason": "StorageAccessDenied", "message": "may not delete."}, code=21, complete=False)
    assert world.said("Reclaimed") == ("False", Reason.RECLAIM_FAILED)
    assert world.said("Stalled") == ("True", Reason.RECLAIM_FAILED)
    for words in (
        "StorageAccessDenied: may not delete.",
        "trimtab.dev/reclaim=Retain",
        "trimtab.dev/reclaim=Delete:again",
    ):
        assert words in world.message("Reclaimed")
    world.seconds = 599
    assert set(world.look().jobs) == {first}
    world.seconds = 601
    assert world.look().plan.delete, "the failed Job makes room"
    assert set(world.look().jobs) == {first}, "and is made anew"
    assert world.said("Reclaimed") == ("False", Reason.RECLAIMING)


def test_the_annotation_tries_again_at_once_or_lets_go() -> None:
    world = deleting()
    (first,) = world.jobs
    world.end(words={"reason": "StorageAccessDenied", "message": "no."}, code=21, complete=False)
    annotated(world, "Delete:again").look().look()
    assert len(world.jobs) == 1
    assert first not in world.jobs
    assert annotated(world, "Retain").plan.finalizer is False


def test_a_namespace_that_goes_does_not_wait() -> None:
    assert VersionWorld(version(), namespace_is_going=True, rollouts=(rollout(1),)).look().plan.finalizer is False


def test_a_job_that_still_publishes_goes_first() -> None:
    world = VersionWorld(version(deleted=False, finalizers=(RECLAIM_FINALIZER,), importFrom={"uri": "s3://lake/a", "format": "peftAdapter"}, artifact=None, source=None, verifiedAt="")).look()  # fmt: skip
    (importing,) = world.jobs
    metadata = world.version.metadata.model_copy(update={"deletion_timestamp": "2026-11-21T12:00:00Z"})
    world.version = world.version.model_copy(update={"metadata": metadata})
    assert [ref.name for ref in world.look().plan.delete] == [importing]
    (job,) = world.look().jobs.values()
    config = job["spec"]["template"]["metadata"]["annotations"]["trimtab.dev/version-job"]
    deletion = VersionJobConfig.model_validate_json(config).delete
    assert deletion is not None
    assert deletion.manifest_sha256 == ""


def test_the_garbage_collector_is_let_through_first() -> None:
    world = VersionWorld(version(finalizers=(RECLAIM_FINALIZER, "foregroundDeletion"))).look().look()
    assert world.jobs == {}
    metadata = world.version.metadata.model_copy(update={"finalizers": [RECLAIM_FINALIZER]})
    world.version = world.version.model_copy(update={"metadata": metadata})
    assert len(world.look().jobs) == 1


@pytest.mark.parametrize(
    ("observed", "reason"),
    [
        pytest.param({"profile": None}, Reason.PROFILE_NOT_FOUND, id="no profile"),
        pytest.param({"storage": None}, Reason.STORAGE_PROFILE_NOT_FOUND, id="no store"),
        pytest.param({"rejected": RejectedWrite(Reason.QUOTA_EXCEEDED, "no quota", "Job", NOW)}, Reason.RECLAIM_FAILED, id="no quota"),
    ],
)  # fmt: skip
def test_what_keeps_the_job_from_being_made_is_said(observed: dict[str, Any], reason: Reason) -> None:
    world = deleting(**observed)
    assert world.said("Stalled") == ("True", reason)
    assert "trimtab.dev/reclaim=Retain" in world.message("Stalled")
