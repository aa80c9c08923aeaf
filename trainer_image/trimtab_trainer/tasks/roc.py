"""Area under the ROC curve of a classifier, from counts that batches and ranks may add up: histograms of scores."""

from collections.abc import Mapping

import torch
from torch import Tensor

from trimtab_trainer.tasks.task import Sums

RANGE = 12.0
"""Margins beyond this (in logits) fall into the outermost bins."""
MOST_BINS, COUNTS = 256, 6400
"""Bins for each class, and how many there may be for all classes together."""


def score_counts(logits: Tensor, labels: Tensor) -> Sums:
    """How often each class, true or not, had a score in each bin.

    Args:
        logits: [rows, classes]. A class's score is its log odds against all others.
        labels: [rows], true classes.
    """
    classes = logits.shape[-1]
    bins = bins_of(classes)
    odds = torch.special.logit(logits.softmax(-1).double(), eps=1e-9)
    places = ((odds.clamp(-RANGE, RANGE) + RANGE) / (2 * RANGE) * (bins - 1)).round().long()
    sums: Sums = {}
    for label in range(classes):
        for truth in (0, 1):
            counts = torch.bincount(places[(labels == label) == bool(truth), label], minlength=bins)
            sums |= {f"score/{label}/{truth}/{place}": float(count) for place, count in enumerate(counts.tolist())}
    return sums


def bins_of(classes: int) -> int:
    """Bins for each class."""
    return max(8, min(MOST_BINS, COUNTS // classes))


def roc_auc(sums: Mapping[str, float], classes: int) -> float:
    """Mean over the classes of the chance that a true example scores above another one, ties counting half (one against the rest).

    Two classes have the same area. Classes that are always or never true are left out; 0.5 where there is no other.
    """
    areas = [area for area in (_area(sums, label, bins_of(classes)) for label in range(classes)) if area is not None]
    return sum(areas) / len(areas) if areas else 0.5


def _area(sums: Mapping[str, float], label: int, bins: int) -> float | None:
    below = won = 0.0
    for place in range(bins):
        others, own = (sums[f"score/{label}/{truth}/{place}"] for truth in (0, 1))
        won += own * (below + others / 2)
        below += others
    own_total = sum(sums[f"score/{label}/1/{place}"] for place in range(bins))
    return won / (own_total * below) if own_total and below else None
