"""Definitions that several tasks measure by."""

from collections.abc import Sequence


def ratio(part: float, whole: float) -> float:
    """A share; 0 of nothing, as scikit-learn has it."""
    return part / whole if whole else 0.0


def precision_recall_f1(right: float, predicted: float, true: float) -> tuple[float, float, float]:
    """From counts of what was predicted rightly, what was predicted, and what is true."""
    precision, recall = ratio(right, predicted), ratio(right, true)
    return precision, recall, ratio(2 * precision * recall, precision + recall)


def edit_distance(reference: Sequence[object], hypothesis: Sequence[object]) -> int:
    """Fewest substitutions, insertions and deletions between two sequences (Levenshtein, 1966)."""
    row = list(range(len(hypothesis) + 1))
    for number, expected in enumerate(reference, start=1):
        diagonal, row[0] = row[0], number
        for column, found in enumerate(hypothesis, start=1):
            diagonal, row[column] = (
                row[column],
                min(row[column] + 1, row[column - 1] + 1, diagonal + (expected != found)),
            )
    return row[-1]
