"""What becomes of a plan, against an API server in memory."""

from typing import Any

import pytest
from tests.support.fake_api import FakeApi
from tests.support.manifests import smallest

from trimtab_operator.cluster.apply import Applier
from trimtab_operator.cluster.resources import WATCHED_KINDS
from trimtab_operator.cluster.store import Store
from trimtab_operator.cluster.trim import Stored
from trimtab_operator.errors import ConflictError, RejectedError
from trimtab_operator.state import Manifest, ObjectRef, Plan


class World:
    """A FineTuneJob, what is there, and what the Store knows of it."""

    def __init__(self) -> None:
        self.api, self.store = FakeApi(), Store()
        self.owner = Stored.of(self.api.put(smallest("FineTuneJob")))
        self.store.put(self.owner)
        self.now = 0.0
        self.applier = Applier(self.api, self.store, clock=lambda: self.now)  # type: ignore[arg-type]

    def child(self, kind: str, name: str = "child", *, uid: str = "", **body: Any) -> Manifest:
        """A child of the job, or of somebody else."""
        owner = {
            "apiVersion": "trimtab.dev/v1alpha1",
            "kind": "FineTuneJob",
            "name": "sample",
            "uid": uid or self.owner.uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }
        return {
            "apiVersion": "v1",
            "kind": kind,
            "metadata": {"name": name, "namespace": "demo", "ownerReferences": [owner]},
            **body,
        }

    def exists(self, manifest: Manifest, *, seen: bool = True) -> Manifest:
        """The object is there; the Store has seen it or not."""
        live = self.api.put(manifest)
        if seen and manifest["kind"] in WATCHED_KINDS:
            self.store.put(Stored.of(live))
        return live

    async def apply(self, **plan: Any) -> list[tuple[str, str]]:
        """Carry out a plan; the writes it took."""
        before = len(self.api.writes())
        await self.applier.apply(Plan(**plan), self.owner)
        return [(verb, kind) for verb, kind, _ in self.api.writes()[before:]]


def wanted(kind: str, **body: Any) -> Manifest:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": "child"}, **body}


def ref(live: Manifest, **changes: str) -> ObjectRef:
    metadata = live["metadata"]
    found = ObjectRef(
        "v1", live["kind"], metadata["namespace"], metadata["name"], metadata["uid"], metadata["resourceVersion"]
    )
    return found._replace(**changes)


@pytest.fixture
def world() -> World:
    return World()


async def test_children_are_owned_and_in_the_owners_namespace(world: World) -> None:
    assert await world.apply(create=(wanted("Job", spec={}),)) == [("create", "Job")]

    made = world.api.find("Job", "demo", "child")
    assert made is not None
    assert made["metadata"]["ownerReferences"][0]["uid"] == world.owner.uid
    assert world.store.get("Job", "demo", "child") is not None, "read your own writes"


async def test_a_model_version_outlives_its_job(world: World) -> None:
    version = {**smallest("ModelVersion"), "spec": {"source": {"uid": world.owner.uid}}}

    await world.apply(create=(version,))

    made = world.api.find("ModelVersion", "demo", "support-tone-v1")
    assert made is not None
    assert "ownerReferences" not in made["metadata"]


@pytest.mark.parametrize(
    ("kind", "seen", "writes"),
    [
        pytest.param("Job", True, [], id="known: no request"),
        pytest.param("Job", False, [("create", "Job")], id="not seen yet: the name is taken, by us"),
        pytest.param("ConfigMap", False, [("create", "ConfigMap")], id="never watched"),
    ],
)
async def test_what_exists_already_counts_as_made(
    world: World, kind: str, writes: list[tuple[str, str]], *, seen: bool
) -> None:
    world.exists(world.child(kind), seen=seen)

    assert await world.apply(create=(wanted(kind),)) == writes


async def test_configuration_of_an_abandoned_try_is_brought_up_to_date(world: World) -> None:
    world.exists(world.child("ConfigMap", data={"a": "old"}))

    assert await world.apply(create=(wanted("ConfigMap", data={"a": "new"}),)) == [
        ("create", "ConfigMap"),
        ("apply", "ConfigMap"),
    ]
    live = world.api.find("ConfigMap", "demo", "child")
    assert live is not None
    assert live["data"] == {"a": "new"}


@pytest.mark.parametrize("how", ["create", "apply"])
@pytest.mark.parametrize("kind", ["Job", "ConfigMap"])
@pytest.mark.parametrize("seen", [True, False])
async def test_what_belongs_to_somebody_else_is_not_touched(world: World, how: str, kind: str, *, seen: bool) -> None:
    foreign = world.exists(world.child(kind, uid="somebody", data={"precious": "yes"}), seen=seen or how == "apply")

    with pytest.raises(RejectedError, match="belongs to somebody else"):
        await world.apply(**{how: (wanted(kind, data={"mine": "yes"}),)})

    assert world.api.find(kind, "demo", "child") == foreign


@pytest.mark.parametrize("kind", ["Deployment", "ConfigMap"])
async def test_an_apply_that_changes_nothing_is_not_sent(world: World, kind: str) -> None:
    manifest = wanted(kind, spec={"replicas": 1})
    assert await world.apply(apply=(manifest,)) == [("apply", kind)]

    assert await world.apply(apply=(manifest,)) == []
    assert await world.apply(apply=(wanted(kind, spec={"replicas": 2}),)) == [("apply", kind)]


async def test_an_apply_after_a_restart_is_not_sent_where_nothing_is_missing(world: World) -> None:
    live = world.child("Deployment", spec={"replicas": 1, "addedByTheServer": True})
    world.exists(live)
    manifest = wanted("Deployment", spec={"replicas": 1})

    assert await world.apply(apply=(manifest,)) == []


async def test_a_value_that_the_server_spells_in_its_own_way_is_sent_once(world: World) -> None:
    manifest = wanted("Deployment", spec={"cpu": "0.5"})
    await world.apply(apply=(manifest,))
    live = world.api.find("Deployment", "demo", "child")
    assert live is not None
    known = world.store.get("Deployment", "demo", "child")
    assert known is not None
    normalised = {**live, "spec": {"cpu": "500m"}, "status": {"ready": 1}}
    normalised["metadata"]["resourceVersion"] = str(known.version + 1)
    world.store.put(Stored.of(normalised))

    assert await world.apply(apply=(manifest,)) == []


async def test_what_somebody_changed_is_put_right(world: World) -> None:
    manifest = wanted("Deployment", spec={"replicas": 1})
    await world.apply(apply=(manifest,))
    live = world.api.find("Deployment", "demo", "child")
    assert live is not None
    world.exists({**live, "spec": {"replicas": 5}})

    assert await world.apply(apply=(manifest,)) == [("apply", "Deployment")]


async def test_configuration_that_somebody_deleted_comes_back(world: World) -> None:
    wants = wanted("ConfigMap", data={"a": "b"})
    assert await world.apply(apply=(wants,)) == [("apply", "ConfigMap")]
    world.api.objects.pop(("ConfigMap", "demo", "child"))
    assert await world.apply(apply=(wants,)) == []
    world.now += 300
    assert await world.apply(apply=(wants,)) == [("apply", "ConfigMap")]


async def test_a_route_is_read_every_time(world: World) -> None:
    wants = wanted("HTTPRoute", spec={"rules": []})
    assert await world.apply(apply=(wants,)) == [("apply", "HTTPRoute")]
    assert await world.apply(apply=(wants,)) == []
    world.api.objects.pop(("HTTPRoute", "demo", "child"))
    assert await world.apply(apply=(wants,)) == [("apply", "HTTPRoute")]


async def test_a_delete_names_exactly_one_object(world: World) -> None:
    live = world.exists(world.child("Job"))

    assert await world.apply(delete=(ref(live),)) == [("delete", "Job")]
    assert world.store.get("Job", "demo", "child") is None
    assert await world.apply(delete=(ref(live),)) == [], "gone is gone"


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"uid": "another"}, id="a new object of that name"),
        pytest.param({"owner": "somebody"}, id="an object that is no longer ours"),
        pytest.param({"deletionTimestamp": "2026-11-21T12:00:00Z"}, id="one that is being deleted already"),
    ],
)
async def test_what_a_delete_leaves_alone(world: World, other: dict[str, str]) -> None:
    planned = world.exists(world.child("Job"))
    changed = world.child("Job", uid=other.pop("owner", ""))
    changed["metadata"] |= other
    world.api.put(changed)

    assert await world.apply(delete=(ref(planned, resource_version=""),)) == []


async def test_a_plan_made_on_an_old_owner_deletes_nothing(world: World) -> None:
    live = world.exists(world.child("Job"))
    newer = smallest("FineTuneJob")
    newer["spec"]["suspend"] = True
    world.api.put(newer)

    with pytest.raises(ConflictError):
        await world.apply(delete=(ref(live),))

    assert world.api.find("Job", "demo", "child") is not None
    known = world.store.by_uid(world.owner.uid)
    assert known is not None
    assert known.version > world.owner.version, "the next pass decides on what is there"


async def test_a_child_that_changed_since_it_was_observed_is_not_deleted(world: World) -> None:
    live = world.exists(world.child("Job"))
    world.api.put(world.child("Job", spec={"suspend": False}))

    with pytest.raises(ConflictError):
        await world.apply(delete=(ref(live),))
    assert world.api.find("Job", "demo", "child") is not None


async def test_an_owner_that_is_gone_takes_its_plan_along(world: World) -> None:
    live = world.exists(world.child("Job"))
    del world.api.objects["FineTuneJob", "demo", "sample"]

    with pytest.raises(ConflictError):
        await world.apply(delete=(ref(live),))
    assert world.store.by_uid(world.owner.uid) is None


async def test_the_time_to_live_deletes_the_owner_itself(world: World) -> None:
    assert await world.apply(delete_owner=True) == [("delete", "FineTuneJob")]
