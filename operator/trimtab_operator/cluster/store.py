"""The newest known version of every object that matters.

Watches lose, repeat and reorder events, and after a re-list they show the past. The Store takes an object only if
its resourceVersion is newer than what it has, and remembers what was deleted, so that none of that changes anything.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from trimtab_operator.cluster.trim import Stored

_TOMBSTONES = 20_000
"""Deletions that are remembered. A watch cannot bring back what was deleted longer ago than these."""


class Change(NamedTuple):
    """What a write did to the Store. One of the two is there."""

    before: Stored | None
    after: Stored | None


class Store:
    """Objects by uid, by name, by controller, by term. Belongs to one event loop."""

    def __init__(self) -> None:
        self._objects: dict[str, Stored] = {}
        self._names: dict[tuple[str, str, str], str] = {}
        self._owned: dict[str, dict[str, None]] = {}
        self._terms: dict[str, dict[str, None]] = {}
        self._kinds: dict[str, dict[str, None]] = {}
        self._tombstones: OrderedDict[str, int] = OrderedDict()
        self.on_own_write: Callable[[Change, Stored], None] = lambda _change, _by: None
        """Told what a write of ours changed, and for which object it was done."""

    # ── Writing ──

    def put(self, new: Stored) -> Change | None:
        """Take an object, unless what is known is as new or newer. None: nothing changed."""
        if new.version <= self._tombstones.get(new.uid, -1):
            return None
        old = self._objects.get(new.uid)
        if old is None:
            old = self.get(new.kind, new.namespace, new.name)
            if old is not None and old.version < new.version:
                # The name was given to a new object and the deletion of the old one was lost.
                self._tombstones[old.uid] = new.version
        if old is not None:
            if old.version >= new.version:
                return None
            self._forget(old)
        self._remember(new)
        return Change(old, new)

    def wrote(self, new: Stored, *, by: Stored) -> None:
        """Take the reply to a write of ours, and tell those who wait for such an object."""
        if change := self.put(new):
            self.on_own_write(change, by)

    def remove(self, uid: str, version: int) -> Change | None:
        """Note that an object was gone at `version`."""
        old = self._objects.get(uid)
        if old is not None and old.version > version:
            return None
        self._tombstones[uid] = max(version, self._tombstones.get(uid, -1))
        self._tombstones.move_to_end(uid)
        while len(self._tombstones) > _TOMBSTONES:
            self._tombstones.popitem(last=False)
        if old is None:
            return None
        self._forget(old)
        return Change(old, None)

    def missed(self, old: Stored, *, by: Stored) -> None:
        """Note that an object turned out to be gone, and tell those who wait for such an object."""
        if change := self.remove(old.uid, old.version):
            self.on_own_write(change, by)

    def sweep(self, kind: str, namespace: str, *, seen: set[str], version: int) -> list[Change]:
        """Remove what a full LIST at `version` did not show. An empty namespace means all."""
        absent = [
            stored
            for stored in self.all(kind)
            if stored.uid not in seen and stored.version <= version and namespace in ("", stored.namespace)
        ]
        changes = (self.remove(stored.uid, version) for stored in absent)
        return [change for change in changes if change is not None]

    # ── Reading ──

    def get(self, kind: str, namespace: str, name: str) -> Stored | None:
        """The object of that name."""
        uid = self._names.get((kind, namespace, name))
        return None if uid is None else self._objects[uid]

    def by_uid(self, uid: str) -> Stored | None:
        """The object of that uid."""
        return self._objects.get(uid)

    def owned(self, uid: str, kind: str) -> list[Stored]:
        """Objects of a kind whose controller is `uid`, by name."""
        return self._sorted(stored for stored in self._look_up(self._owned, uid) if stored.kind == kind)

    def having(self, term: str) -> list[Stored]:
        """Objects with a term of trim.py, by name."""
        return self._sorted(self._look_up(self._terms, term))

    def all(self, kind: str) -> Iterator[Stored]:
        """All objects of a kind, in no order."""
        return self._look_up(self._kinds, kind)

    def count(self, kind: str) -> int:
        """How many objects of a kind there are."""
        return len(self._kinds.get(kind, ()))

    # ── Indexes ──

    def _look_up(self, index: dict[str, dict[str, None]], key: str) -> Iterator[Stored]:
        return (self._objects[uid] for uid in list(index.get(key, ())))

    @staticmethod
    def _sorted(found: Iterable[Stored]) -> list[Stored]:
        return sorted(found, key=lambda stored: (stored.namespace, stored.name))

    def _remember(self, new: Stored) -> None:
        self._objects[new.uid] = new
        self._names[new.kind, new.namespace, new.name] = new.uid
        for index, key in self._places(new):
            index.setdefault(key, {})[new.uid] = None

    def _forget(self, old: Stored) -> None:
        del self._objects[old.uid]
        name = (old.kind, old.namespace, old.name)
        if self._names.get(name) == old.uid:
            del self._names[name]
        for index, key in self._places(old):
            uids = index[key]
            del uids[old.uid]
            if not uids:
                del index[key]

    def _places(self, stored: Stored) -> Iterator[tuple[dict[str, dict[str, None]], str]]:
        yield self._kinds, stored.kind
        if stored.owner:
            yield self._owned, stored.owner
        for term in stored.terms:
            yield self._terms, term
