"""When memory does not suffice after all: halve the micro batch, say so, and take the step again."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from trimtab_trainer import logs

PHRASES = ("out of memory", "can't allocate memory", "not enough memory", "bad_alloc")
"""What torch says on CPUs, where it has no error class of its own."""


@dataclass
class Shortage:
    """Whether a block ran out of memory."""

    happened: bool = False


def is_shortage(error: Exception) -> bool:
    """The error means that memory did not suffice."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and any(phrase in str(error).lower() for phrase in PHRASES)
    )


@contextmanager
def noticing_shortage(*, can_shrink: bool) -> Iterator[Shortage]:
    """Take an out-of-memory error as a fact that all ranks are told, where there is a smaller micro batch to try."""
    found = Shortage()
    try:
        yield found
    except (RuntimeError, MemoryError) as error:
        if not (can_shrink and is_shortage(error)):
            raise
        found.happened = True
        logs.warning("out_of_memory", error=str(error).splitlines()[0][:200])
    if found.happened and torch.cuda.is_available():
        torch.cuda.empty_cache()
