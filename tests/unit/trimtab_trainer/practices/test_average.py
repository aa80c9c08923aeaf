"""The average of the weights."""

import pytest
import torch
from torch import nn

from trimtab_trainer.practices.average import decay_at, update_average


@pytest.mark.parametrize(
    ("update", "expected"),
    [
        pytest.param(1, 2 / 11, id="the first counts most"),
        pytest.param(80, 0.9, id="81 / 90"),
        pytest.param(10**6, 0.99, id="the decay"),
    ],
)
def test_the_factor(update: int, expected: float) -> None:
    assert decay_at(update, 0.99) == pytest.approx(expected)


def test_the_average_is_the_recursion() -> None:
    torch.manual_seed(0)
    weights = {"a": nn.Parameter(torch.randn(3)), "b": nn.Parameter(torch.randn(2, 2))}
    average = {name: value.detach().clone() for name, value in weights.items()}
    expected = {name: value.double() for name, value in average.items()}
    for update in range(1, 30):
        for name, value in weights.items():
            value.data += torch.randn_like(value)
            factor = min(0.8, (1 + update) / (10 + update))
            expected[name] = factor * expected[name] + (1 - factor) * value.detach().double()
        update_average(average, weights, update=update, decay=0.8)
    for name, value in average.items():
        torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-6)
