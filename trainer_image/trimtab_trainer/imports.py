"""Imports of what takes seconds: torch, transformers, peft."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def many_imports() -> Iterator[None]:
    """Import without looking for garbage, and never look through what was imported again.

    Modules make a million objects that all stay. The collector goes through them again and again as they become more, which is a
    quarter of the time that the imports take. See `gc.freeze` in Python's documentation.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
