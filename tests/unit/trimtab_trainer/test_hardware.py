"""Who may start threads for arithmetic."""

import pytest
import torch
from threadpoolctl import ThreadpoolController

from trimtab_trainer.hardware import leave_threads_to_torch

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("precision", "threads"),
    [
        pytest.param(torch.float32, 2, id="products in float32 are OpenBLAS'"),
        pytest.param(torch.bfloat16, 1, id="those in bfloat16 are not"),
    ],
)
def test_openblas_starts_threads_for_its_own_products_only(precision: torch.dtype, threads: int) -> None:
    libraries = ThreadpoolController().select(internal_api="openblas")
    with libraries.limit(limits=2):
        leave_threads_to_torch(precision, CPU)
        assert {library["num_threads"] for library in libraries.info()} == {threads}
