"""Which version answers a request: by name, or by weight. Pure, and replaced as a whole when the configuration changes."""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass

BASE = "base"
"""Model name of the base model without adapters."""


@dataclass(frozen=True)
class Share:
    """One version that can answer, and its part of the traffic."""

    name: str
    version: int
    weight: int


class Routing:
    """The table of one moment."""

    def __init__(self, model_name: str, shares: Sequence[Share], *, sticky: bool = True) -> None:
        self.model_name = model_name
        self._sticky = sticky
        self.names = tuple(share.name for share in shares)
        # By version number, so that a growing weight of the newest version only adds users to it and takes none away.
        self._shares = sorted((share for share in shares if share.weight > 0), key=lambda share: share.version)
        self._total = sum(share.weight for share in self._shares)

    def pick(self, point: float) -> str | None:
        """The version at a point in [0, 1); None where no version has any weight."""
        reached = 0
        for share in self._shares:
            reached += share.weight
            if point * self._total < reached:
                return share.name
        return None

    def point_of(self, user: str | None) -> float:
        """A user's fixed point: the same version answers as long as the weights stay, in every replica. Anybody else's is random."""
        if not user or not self._sticky:
            return random.random()  # noqa: S311 - traffic, not secrets
        digest = hashlib.sha256(f"{self.model_name}\0{user}".encode()).digest()
        return int.from_bytes(digest[:6]) / (1 << 48)
