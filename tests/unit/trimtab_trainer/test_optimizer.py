"""Decay groups, and the state as tensors."""

import pytest
import torch
from torch import nn

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.spec import Training
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.optimizer import (
    load_optimizer,
    make_optimizer,
    optimizer_tensors,
    parse_extra_arguments,
    set_learning_rate,
)


def training(**changes: object) -> Training:
    return Training.model_validate(changes)


def parameters() -> dict[str, nn.Parameter]:
    torch.manual_seed(0)
    return {"matrix": nn.Parameter(torch.randn(3, 2)), "bias": nn.Parameter(torch.randn(3))}


def test_biases_and_norms_do_not_decay() -> None:
    trainable = parameters()
    optimizer = make_optimizer(trainable, training(weightDecay=0.5))
    for parameter in trainable.values():
        parameter.grad = torch.zeros_like(parameter)
    before = {name: parameter.detach().clone() for name, parameter in trainable.items()}
    set_learning_rate(optimizer, 1.0)
    optimizer.step()
    assert torch.equal(trainable["bias"], before["bias"])
    torch.testing.assert_close(trainable["matrix"].detach(), before["matrix"] * 0.5)


def test_a_restored_optimizer_takes_the_same_step() -> None:
    ends = []
    for interrupted in (False, True):
        trainable = parameters()
        optimizer = make_optimizer(trainable, training())
        for step in range(4):
            if interrupted and step == 2:
                state = {name: tensor.clone() for name, tensor in optimizer_tensors(optimizer, trainable).items()}
                optimizer = make_optimizer(trainable, training())
                load_optimizer(optimizer, trainable, state, step=2, starts={})
            for parameter in trainable.values():
                parameter.grad = torch.sin(parameter.detach() + step)
            set_learning_rate(optimizer, 1.0)
            optimizer.step()
        ends.append([parameter.detach().clone() for parameter in trainable.values()])
    assert all(torch.equal(left, right) for left, right in zip(*ends, strict=True))


@pytest.mark.parametrize("arguments", [{"adamBeta3": 1}, {"adamBeta1": "big"}, {"adamBeta1": 2}])
def test_unknown_and_wrong_extra_arguments_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(
        TrainerError, match="Known arguments: adamBeta1, adamBeta2, adamEpsilon, logEverySteps"
    ) as caught:
        parse_extra_arguments(training(extraArguments=arguments))
    assert caught.value.reason is TrainerReason.CONFIG_INVALID
    assert next(iter(arguments)) in str(caught.value)
