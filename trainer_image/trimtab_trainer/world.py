"""This process among all processes of an attempt. Imports no torch."""

import os
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class World:
    """Rank, local rank and world size as torchrun names them."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        """Rank 0 writes, reports and publishes."""
        return self.rank == 0


def world_from_environment(environment: Mapping[str, str] = os.environ) -> World:
    """As torchrun and `launcher.py` set it."""
    return World(
        rank=int(environment.get("RANK", "0")),
        world_size=int(environment.get("WORLD_SIZE", "1")),
        local_rank=int(environment.get("LOCAL_RANK", "0")),
    )
