"""Average precision of object detection as COCO defines it (Lin et al., 2014, arXiv:1405.0312), from additive counts.

Detections are matched image by image, so what they are worth can be counted in bins of their scores and added up over
batches and processes. Scores within one bin of 1/1000 count as equal, which moves the result by less than 0.01.
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""Overlap (intersection over union) from which a detection counts as right."""
BINS = 1000
RECALLS = np.linspace(0.0, 1.0, 101)

Floats: TypeAlias = NDArray[np.float64]


def overlaps(left: Floats, right: Floats) -> Floats:
    """Intersection over union of boxes `(x0, y0, x1, y1)`, [left, right]."""
    corner = np.maximum(left[:, None, :2], right[None, :, :2])
    opposite = np.minimum(left[:, None, 2:], right[None, :, 2:])
    shared = np.clip(opposite - corner, 0, None).prod(-1)
    areas = [np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(-1) for boxes in (left, right)]
    union = areas[0][:, None] + areas[1][None] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def count_detections(boxes: Floats, scores: Floats, truths: Floats) -> Floats:
    """Right and wrong detections of one class in one image, [right or wrong, thresholds, bins].

    The likeliest detection chooses first, and takes the truth that it overlaps most and that is still free.
    """
    counts: Floats = np.zeros((2, len(THRESHOLDS), BINS))
    shared = overlaps(boxes, truths)
    bins = np.minimum((scores * BINS).astype(int), BINS - 1)
    for number, threshold in enumerate(THRESHOLDS):
        free: NDArray[np.bool_] = np.ones(len(truths), bool)
        for detection in np.argsort(-scores, kind="stable"):
            candidates = np.where(free, shared[detection], -1.0)
            best = int(candidates.argmax()) if len(candidates) else -1
            is_right = best >= 0 and candidates[best] >= threshold
            if is_right:
                free[best] = False
            counts[0 if is_right else 1, number, bins[detection]] += 1
    return counts


def average_precision(counts: Floats, truths: float) -> Floats:
    """Area under the precision-recall curve at each threshold, by COCO's 101 points; [thresholds].

    `counts` are those of `count_detections` added up, `truths` how many boxes there are.
    """
    right = counts[0, :, ::-1].cumsum(-1)
    wrong = counts[1, :, ::-1].cumsum(-1)
    seen = right + wrong
    precision = np.divide(right, seen, out=np.zeros_like(right), where=seen > 0)
    precision = np.maximum.accumulate(precision[:, ::-1], axis=-1)[:, ::-1]
    found = []
    for recall, best in zip(right / truths, precision, strict=True):
        places = np.searchsorted(recall, RECALLS - 1e-12, side="left")
        found.append(np.append(best, 0.0)[places].mean())
    return np.asarray(found)
