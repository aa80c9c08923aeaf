"""Which parameters share a learning rate and a weight decay, and from which step on each one moves."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from trimtab_trainer.contract.spec import Training
from trimtab_trainer.methods.layers import Layers

SCALE = "scale"
"""Key of a parameter group: its share of the scheduled learning rate."""


def parameter_groups(
    trainable: Mapping[str, nn.Parameter], training: Training, *, undecayed: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """One group for each pair of learning rate and weight decay.

    Args:
        trainable: the parameters that move, by name.
        training: learning rates and decay.
        undecayed: ends of names that never decay; biases and norms do not either.
    """
    scales = learning_rate_scales(trainable, training.layerwise_learning_rate_decay)
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in trainable.items():
        decays = parameter.ndim > 1 and not name.endswith(tuple(undecayed))
        groups.setdefault((scales[name], decays), []).append(parameter)
    return [
        {"params": parameters, "weight_decay": training.weight_decay if decays else 0.0, SCALE: scale}
        for (scale, decays), parameters in sorted(groups.items(), key=lambda item: item[0], reverse=True)
    ]


def learning_rate_scales(names: Iterable[str], decay: float | None) -> dict[str, float]:
    """Discriminative learning rates: `decay` to the power of the layers above; 1 in the last layer and in the head.

    Howard and Ruder, 2018, arXiv:1801.06146; Clark et al., 2020, arXiv:2003.10555.
    """
    names = list(names)
    layers = Layers(names)
    return {name: 1.0 if decay is None else decay ** layers.distance(name) for name in names}


def first_steps(names: Iterable[str], training: Training, *, steps_per_epoch: int) -> dict[str, int]:
    """The update of the weights (from 0) in which each parameter begins to move. A function of the configuration: resumes are exact.

    Stage k moves the last `(k + 1) * layersPerStage` layers and what lies above. Where the method trains nothing in the
    topmost layers, the first stage is the first one that has something to train.
    """
    names, settings = list(names), training.gradual_unfreezing
    if settings is None:
        return dict.fromkeys(names, 0)
    layers = Layers(names)
    stages = {name: layers.distance(name) // settings.layers_per_stage for name in names}
    first = min(stages.values(), default=0)
    length = settings.every_steps or (settings.every_epochs or 1.0) * steps_per_epoch
    return {name: round((stage - first) * length) for name, stage in stages.items()}


def moving(trainable: Mapping[str, nn.Parameter], starts: Mapping[str, int], *, update: int) -> list[nn.Parameter]:
    """The parameters that move in an update (the first is 0). The others are frozen: no gradient is computed for them, and none is left."""
    chosen = []
    for name, parameter in trainable.items():
        moves = starts.get(name, 0) <= update
        if parameter.requires_grad != moves:
            parameter.requires_grad_(moves)
            parameter.grad = None
        if moves:
            chosen.append(parameter)
    return chosen
