"""The rate at each step is the formula's."""

import math

import pytest
import torch
from transformers import get_inverse_sqrt_schedule

from trimtab_trainer.contract.practices import LearningRateSchedule
from trimtab_trainer.practices.schedule import learning_rate


@pytest.mark.parametrize(
    ("schedule", "step", "expected"),
    [
        pytest.param({"cosine": {"warmupRatio": 0.1}}, 0, 1 / 11, id="warm-up begins above 0"),
        pytest.param({"cosine": {"warmupRatio": 0.1}}, 9, 10 / 11, id="warm-up ends below the peak"),
        pytest.param({"cosine": {"warmupRatio": 0.1}}, 10, 1.0, id="the peak"),
        pytest.param({"cosine": {"warmupRatio": 0.1}}, 55, 0.5, id="half of the cosine"),
        pytest.param(
            {"cosine": {"warmupRatio": 0.1}},
            99,
            0.5 * (1 + math.cos(math.pi * 89 / 90)),
            id="the last step still moves",
        ),
        pytest.param({"cosine": {"warmupRatio": 0.0, "minimumRatio": 0.2}}, 50, 0.6, id="half-way to the floor"),
        pytest.param({"linear": {"warmupRatio": 0.0, "minimumRatio": 0.1}}, 100, 0.1, id="the floor"),
        pytest.param({"inverseSquareRoot": {"warmupRatio": 0.1}}, 10, 1.0, id="inverse square root: the peak"),
        pytest.param({"inverseSquareRoot": {"warmupRatio": 0.1}}, 40, 0.5, id="a quarter of sqrt: sqrt(10 / 40)"),
        pytest.param(
            {"cosineWithRestarts": {"warmupRatio": 0.0, "cycles": 4}},
            24,
            0.5 * (1 + math.cos(math.pi * 0.96)),
            id="the end of a cycle",
        ),
        pytest.param({"cosineWithRestarts": {"warmupRatio": 0.0, "cycles": 4}}, 25, 1.0, id="a restart"),
        pytest.param({"linear": {"warmupRatio": 0.0}}, 25, 0.75, id="a line"),
        pytest.param({"constant": {"warmupRatio": 0.0}}, 99, 1.0, id="flat"),
    ],
)
def test_the_learning_rate_is_the_formulas(schedule: dict[str, object], step: int, expected: float) -> None:
    chosen = LearningRateSchedule.model_validate(schedule)
    assert learning_rate(step, total_steps=100, schedule=chosen, peak=2.0) == pytest.approx(2 * expected)


def test_inverse_square_root_is_that_of_transformers_after_the_warm_up() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = get_inverse_sqrt_schedule(optimizer, num_warmup_steps=10)
    chosen = LearningRateSchedule.model_validate({"inverseSquareRoot": {"warmupRatio": 0.1}})
    for step in range(60):
        if step >= 10:
            rate = learning_rate(step, total_steps=100, schedule=chosen, peak=1.0)
            assert rate == pytest.approx(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()
