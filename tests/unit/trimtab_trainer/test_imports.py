"""Imports without the garbage collector."""

import gc

import pytest

from trimtab_trainer.imports import many_imports


def test_the_collector_rests_while_modules_are_imported() -> None:
    with many_imports():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_the_collector_works_again_when_an_import_fails() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_module"), many_imports():
        __import__("no_such_module")
    assert gc.isenabled()


def test_garbage_of_later_is_still_found() -> None:
    class Node:
        """Part of a circle, which only the collector finds."""

        def __init__(self) -> None:
            self.itself = self

    with many_imports():
        pass
    Node()
    assert gc.collect() > 0
