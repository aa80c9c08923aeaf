"""Classes of unequal size: weights in the loss, or equal shares in the batches."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.data.encoded import Encoded
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.model import TrainableModel


def class_weights(config: RunConfig, model: TrainableModel, train: Sequence[Encoded]) -> Tensor | None:
    """Weight of each class, [classes]: their mean over the training examples is 1, so that losses stay comparable.

    Raises:
        TrainerError: ConfigInvalid where a label is named that the model does not know, or all weights are 0.
    """
    chosen = config.training.class_weights
    if chosen is None:
        return None
    counts = Counter(example.label for example in train)
    if chosen.by_label is None:  # as scikit-learn's "balanced": n / (classes * n of the class)
        weights = [1 / counts[number] if counts[number] else 0.0 for number in range(len(model.labels))]
    else:
        _check_labels(chosen.by_label, model.labels)
        weights = [chosen.by_label.get(label, 1.0) for label in model.labels]
    mean = sum(weights[example.label] for example in train) / len(train)
    if not mean:
        raise TrainerError(
            TrainerReason.CONFIG_INVALID,
            "`training.classWeights.byLabel` gives every training example the weight 0; one label must have more.",
        )
    return torch.tensor([weight / mean for weight in weights], device=model.device)


def _check_labels(named: dict[str, float], labels: Sequence[str]) -> None:
    unknown = sorted(set(named) - set(labels))
    if unknown:
        raise TrainerError(
            TrainerReason.CONFIG_INVALID,
            f"`training.classWeights.byLabel` names '{unknown[0]}'; the labels are: {', '.join(labels[:20])}.",
        )


def balanced_probabilities(labels: Sequence[int]) -> NDArray[np.float64]:
    """How likely each example is drawn, so that each class is equally likely; [examples], sums to 1."""
    counts = Counter(labels)
    return np.asarray([1 / (len(counts) * counts[label]) for label in labels])
