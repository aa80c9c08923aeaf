"""Out of memory: the step is taken again in smaller pieces."""

import pytest
import torch

from trimtab_trainer.practices.memory_backoff import is_shortage


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
            True,
        ),
        (MemoryError(), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("shapes do not match"), False),
    ],
)
def test_what_torch_says(error: Exception, expected: bool) -> None:  # noqa: FBT001 - a table
    assert is_shortage(error) is expected
