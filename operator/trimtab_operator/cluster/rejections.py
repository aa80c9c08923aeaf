"""Writes that the API server refused, kept until one succeeds or the spec changes."""

from dataclasses import replace

from trimtab_operator.cluster.trim import Stored
from trimtab_operator.state import RejectedWrite


class Rejections:
    """The last refusal for each object of ours."""

    def __init__(self) -> None:
        self._by_uid: dict[str, tuple[int, RejectedWrite]] = {}

    def of(self, stored: Stored) -> RejectedWrite | None:
        """The refusal, if it was for the present spec."""
        known = self._by_uid.get(stored.uid)
        return known[1] if known is not None and known[0] == _generation(stored) else None

    def note(self, stored: Stored, write: RejectedWrite) -> RejectedWrite:
        """Remember a refusal. The same one again keeps its first time, so that the status does not change."""
        known = self.of(stored)
        if known is not None and replace(known, at=write.at) == write:
            return known
        self._by_uid[stored.uid] = (_generation(stored), write)
        return write

    def clear(self, uid: str) -> None:
        """A write succeeded, or the object is gone."""
        self._by_uid.pop(uid, None)


def _generation(stored: Stored) -> int:
    return int(stored.body()["metadata"].get("generation", 1))
