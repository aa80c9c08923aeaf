"""The Store shows the newest, whatever the watches say and in whichever order."""

from typing import Any

import pytest

from trimtab_operator.cluster.store import Store
from trimtab_operator.cluster.trim import Stored


def an_object(
    name: str = "a", *, version: int = 10, uid: str = "", kind: str = "FineTuneJob", owner: str = "", **body: Any
) -> Stored:
    owners = [{"apiVersion": "x/v1", "kind": "X", "name": "x", "uid": owner, "controller": True}] if owner else []
    metadata = {
        "name": name,
        "namespace": "team",
        "uid": uid or f"uid-of-{name}",
        "resourceVersion": str(version),
        "ownerReferences": owners,
    }
    return Stored.of({"kind": kind, "metadata": metadata, **body})


def put(name: str = "a", version: int = 10, uid: str = "") -> tuple[str, Stored]:
    return ("put", an_object(name, version=version, uid=uid))


def gone(version: int, name: str = "a", uid: str = "") -> tuple[str, Stored]:
    return ("gone", an_object(name, version=version, uid=uid))


def after(*events: tuple[str, Stored]) -> Store:
    store = Store()
    for what, stored in events:
        if what == "put":
            store.put(stored)
        else:
            store.remove(stored.uid, stored.version)
    return store


@pytest.mark.parametrize(
    ("events", "version"),
    [
        pytest.param([put(version=10)], 10, id="first"),
        pytest.param([put(version=10), put(version=11)], 11, id="newer"),
        pytest.param([put(version=11), put(version=10)], 11, id="older is dropped"),
        pytest.param([put(version=10), put(version=10)], 10, id="twice"),
        pytest.param([put(version=9), put(version=10), put(version=9)], 10, id="time travel"),
        pytest.param([put(version=99), put(version=100)], 100, id="numbers, not text"),
        pytest.param([put(version=10), gone(12)], None, id="deleted"),
        pytest.param([put(version=10), gone(12), put(version=11)], None, id="late event after the deletion"),
        pytest.param([gone(12), put(version=11)], None, id="deletion overtakes"),
        pytest.param([put(version=10), gone(12), put(version=13)], 13, id="left the selector and came back"),
        pytest.param([put(version=13), gone(12)], 13, id="an old deletion"),
        pytest.param([put(version=10, uid="old"), put(version=20, uid="new")], 20, id="name given anew, deletion lost"),
        pytest.param(
            [put(version=20, uid="new"), put(version=10, uid="old")], 20, id="the old owner of the name comes late"
        ),
        pytest.param(
            [put(version=10, uid="old"), put(version=20, uid="new"), gone(15, uid="old")],
            20,
            id="late deletion of the old one",
        ),
        pytest.param(
            [put(version=10, uid="old"), put(version=20, uid="new"), put(version=19, uid="old")],
            20,
            id="late change of the old one",
        ),
    ],
)
def test_the_newest_wins(events: list[tuple[str, Stored]], version: int | None) -> None:
    found = after(*events).get("FineTuneJob", "team", "a")

    assert (None if found is None else found.version) == version


def test_a_change_says_what_was_and_what_is() -> None:
    store = Store()
    old, new = an_object(version=1), an_object(version=2)
    store.put(old)

    change = store.put(new)

    assert change == (old, new)
    assert store.put(old) is None
    assert store.remove(new.uid, 3) == (new, None)
    assert store.remove(new.uid, 3) is None


@pytest.mark.parametrize(
    ("seen", "version", "left"),
    [
        pytest.param({"uid-of-a", "uid-of-b"}, 50, ["a", "b"], id="all there"),
        pytest.param({"uid-of-b"}, 50, ["b"], id="one is gone"),
        pytest.param(set(), 9, ["a", "b"], id="the list is older than what is known"),
        pytest.param(set(), 10, ["b"], id="only what the list could have shown"),
    ],
)
def test_a_sweep_removes_what_a_full_list_did_not_show(seen: set[str], version: int, left: list[str]) -> None:
    store = after(put("a", 10), put("b", 20))

    store.sweep("FineTuneJob", "", seen=seen, version=version)

    assert sorted(stored.name for stored in store.all("FineTuneJob")) == left


def test_a_sweep_of_one_namespace_leaves_the_others() -> None:
    store = after(put("a", 10))

    assert store.sweep("FineTuneJob", "elsewhere", seen=set(), version=50) == []
    assert store.sweep("Job", "", seen=set(), version=50) == []


def test_what_a_sweep_removed_does_not_come_back() -> None:
    store = after(put("a", 10))
    store.sweep("FineTuneJob", "", seen=set(), version=50)

    assert store.put(an_object("a", version=30)) is None


def test_dependents_are_found_by_their_controllers_uid() -> None:
    store = Store()
    store.put(an_object("a"))
    store.put(an_object("a-a2", kind="Job", owner="uid-of-a"))
    store.put(an_object("a-a1", kind="Job", owner="uid-of-a"))
    store.put(an_object("foreign", kind="Job", owner="somebody"))

    assert [stored.name for stored in store.owned("uid-of-a", "Job")] == ["a-a1", "a-a2"]
    assert store.owned("uid-of-a", "Pod") == []

    store.remove("uid-of-a-a1", 50)

    assert [stored.name for stored in store.owned("uid-of-a", "Job")] == ["a-a2"]


def test_terms_follow_the_object() -> None:
    store = Store()
    store.put(an_object("v", kind="ModelVersion", version=1, spec={"modelName": "tone"}))
    store.put(an_object("v", kind="ModelVersion", version=2, spec={"modelName": "other"}))

    assert store.having("ModelVersion|model|team|tone") == []
    assert [stored.name for stored in store.having("ModelVersion|model|team|other")] == ["v"]
    assert store.count("ModelVersion") == 1
