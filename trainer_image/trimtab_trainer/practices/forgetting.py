"""What a new task did to what was there before, in the terms of the literature on continual learning."""

from collections.abc import Mapping

ACCURACIES = ("accuracy", "exact_match", "f1", "token_accuracy")
"""What counts as accuracy, the most telling first; 1 is best."""


def continual_metrics(base: Mapping[str, float], tuned: Mapping[str, float]) -> dict[str, float]:
    """Of the new task (`test`) and the old one (`general`); empty unless both were measured before and after.

    `continual_average_accuracy` is the mean of both after training (Lopez-Paz and Ranzato, 2017, arXiv:1706.08840),
    `continual_backward_transfer` the change on the old one, and `continual_forgetting` its loss where there is one
    (Chaudhry et al., 2018, arXiv:1801.10112).
    """
    for name in ACCURACIES:
        new, old = f"test_{name}", f"general_{name}"
        if new in tuned and old in tuned and old in base:
            transfer = tuned[old] - base[old]
            return {
                "continual_average_accuracy": (tuned[new] + tuned[old]) / 2,
                "continual_backward_transfer": transfer,
                "continual_forgetting": max(0.0, -transfer),
            }
    return {}
