"""AdamW in decay groups, and the optimizer's state as plain tensors."""

from collections.abc import Mapping, Sequence

import torch
from pydantic import Field, ValidationError
from torch import Tensor, nn

from trimtab_trainer.contract.base import Document
from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.spec import Training
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.parameter_groups import SCALE, parameter_groups

MOMENTS = ("exp_avg", "exp_avg_sq")


class ExtraArguments(Document):
    """What `training.extraArguments` may hold."""

    adam_beta1: float = Field(default=0.9, ge=0, lt=1)
    adam_beta2: float = Field(default=0.999, ge=0, lt=1)
    adam_epsilon: float = Field(default=1e-8, gt=0)
    log_every_steps: int | None = Field(default=None, ge=1)
    """Steps between two lines of `metrics.jsonl`."""
    shard_weights: bool | None = None
    """Spread weights, gradients and moments over the processes; where it is absent, on accelerators (see `sharding.py`)."""


def parse_extra_arguments(training: Training) -> ExtraArguments:
    """Check the escape hatch.

    Raises:
        TrainerError: ConfigInvalid naming the argument and the known ones.
    """
    try:
        return ExtraArguments.model_validate(training.extra_arguments)
    except ValidationError as error:
        known = ", ".join(ExtraArguments.model_json_schema()["properties"])
        what = "; ".join(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors())
        raise TrainerError(
            TrainerReason.CONFIG_INVALID, f"`training.extraArguments` is wrong ({what}). Known arguments: {known}."
        ) from error


def make_optimizer(
    trainable: Mapping[str, nn.Parameter], training: Training, *, undecayed: Sequence[str] = ()
) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter, 2019, arXiv:1711.05101) over `parameter_groups`. All state exists at once.

    It moves nothing before `set_learning_rate`.
    """
    extra = parse_extra_arguments(training)
    optimizer = torch.optim.AdamW(
        parameter_groups(trainable, training, undecayed=undecayed),
        lr=0.0,
        betas=(extra.adam_beta1, extra.adam_beta2),
        eps=extra.adam_epsilon,
        fused=True,  # one pass over each tensor; on CPUs too
    )
    for parameter in trainable.values():
        moments = {name: torch.zeros_like(parameter) for name in MOMENTS}
        # The fused kernel wants its step counter beside the parameter.
        optimizer.state[parameter] = {"step": torch.zeros((), device=parameter.device), **moments}
    return optimizer


def optimizer_tensors(optimizer: torch.optim.Optimizer, trainable: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """The moments by name: `exp_avg/<parameter>`, `exp_avg_sq/<parameter>`. The step counter is the loop's."""
    return {
        f"{moment}/{name}": optimizer.state[parameter][moment]
        for name, parameter in trainable.items()
        for moment in MOMENTS
    }


@torch.no_grad()
def load_optimizer(
    optimizer: torch.optim.Optimizer,
    trainable: Mapping[str, nn.Parameter],
    tensors: Mapping[str, Tensor],
    *,
    step: int,
    starts: Mapping[str, int],
) -> None:
    """Set the moments and the step counter, which counts from the step in which a parameter began to move."""
    for name, parameter in trainable.items():
        state = optimizer.state[parameter]
        state["step"].fill_(max(0, step - starts.get(name, 0)))
        for moment in MOMENTS:
            state[moment].copy_(tensors[f"{moment}/{name}"])


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """For the next step."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group[SCALE]
