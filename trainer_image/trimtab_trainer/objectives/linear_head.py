"""The last linear layer of a classifier: what it reads of each text, and its weights fitted instead of stepped."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.model import TrainableModel

FAR = -1e4
"""Bias of a class without an example."""
ITERATIONS = 200
"""Of L-BFGS; a few dozen are usual."""


def last_layer(model: TrainableModel) -> nn.Linear:
    """The trained linear layer that makes one number for each label.

    Raises:
        TrainerError: ConfigInvalid where the architecture has another kind of head.
    """
    found = [
        part
        for part in model.module.modules()
        if isinstance(part, nn.Linear) and part.out_features == len(model.labels) and part.weight.requires_grad
    ]
    if not found:
        raise TrainerError(
            TrainerReason.CONFIG_INVALID,
            f"`objective.fewShot` fits a linear head, and {type(model.base).__name__} has none. Use `objective.supervised`.",
        )
    return found[-1]


@contextmanager
def inputs_of(layer: nn.Linear) -> Iterator[list[Tensor]]:
    """Filled with what the layer reads in the forward passes inside."""
    seen: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        handle.remove()


def features(model: TrainableModel, layer: nn.Linear, inputs: dict[str, Tensor]) -> Tensor:
    """[rows, width] in float32: what the layer reads of each text; of models that score every token, at the last one."""
    with inputs_of(layer) as seen, model.autocast():
        model.module(**inputs)
    found = seen[-1].float()
    if found.ndim == 2:  # noqa: PLR2004 - [rows, width]
        return found
    last = inputs["attention_mask"].sum(-1) - 1
    return found[torch.arange(len(found), device=found.device), last]


def logistic_regression(
    points: Tensor, labels: Tensor, *, classes: int, regularization: float, has_bias: bool
) -> tuple[Tensor, Tensor]:
    """Weights [classes, width] and biases [classes] of the multinomial logistic regression, as scikit-learn defines it.

    It minimises `sum of cross-entropies + regularization / 2 * |weights|^2`, which has one minimum. `points` are [rows, width].
    """
    points, labels = points.detach().double().cpu(), labels.cpu()
    weights = torch.zeros(classes, points.shape[1], dtype=torch.double, requires_grad=True)
    biases = torch.zeros(classes, dtype=torch.double, requires_grad=has_bias)
    moving = [weights, biases] if has_bias else [weights]
    optimizer = torch.optim.LBFGS(
        moving, max_iter=ITERATIONS, tolerance_grad=1e-9, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def penalised() -> Any:
        optimizer.zero_grad()
        errors = nn.functional.cross_entropy(points @ weights.T + biases, labels, reduction="sum")
        loss = errors + regularization / 2 * weights.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(penalised)
    return weights.detach(), biases.detach()


def prototypes(points: Tensor, labels: Tensor, *, classes: int) -> tuple[Tensor, Tensor]:
    """The head that chooses the class whose mean is nearest: `-|x - mean|^2` is linear but for a part that all classes share (equation 8 of arXiv:1703.05175)."""
    points, labels = points.detach().double().cpu(), labels.cpu()
    counts = torch.bincount(labels, minlength=classes)[:, None]
    means = torch.zeros(classes, points.shape[1], dtype=torch.double).index_add_(0, labels, points) / counts.clamp_min(
        1
    )
    biases = -means.square().sum(-1)
    biases[counts[:, 0] == 0] = FAR
    return 2 * means, biases
