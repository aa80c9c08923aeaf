"""Answers beside those that are right, as one number."""

from collections import Counter
from collections.abc import Sequence

from trimtab_trainer.contract.canary import AnswerMetric
from trimtab_trainer.tasks.scores import precision_recall_f1


def score(metric: AnswerMetric, pairs: Sequence[tuple[str, str]], *, labels: bool) -> float:
    """The metric over `(expected, answered)` pairs.

    Args:
        metric: of texts `exact_match` and `f1` (of words, as SQuAD has it, without its rules for articles and punctuation);
            of labels `accuracy`, and `precision`, `recall` and `f1` as means over the labels that occur.
        pairs: at least one.
        labels: they are labels, not texts.
    """
    if metric in ("exact_match", "accuracy"):
        return sum(_plain(expected) == _plain(answered) for expected, answered in pairs) / len(pairs)
    if not labels:
        return sum(_of_words(expected, answered) for expected, answered in pairs) / len(pairs)
    found = [_of_label(label, pairs) for label in sorted({label for pair in pairs for label in pair})]
    index = ("precision", "recall", "f1").index(metric)
    return sum(values[index] for values in found) / len(found)


def _of_words(expected: str, answered: str) -> float:
    wanted, given = expected.split(), answered.split()
    shared = sum((Counter(wanted) & Counter(given)).values())
    return precision_recall_f1(shared, len(given), len(wanted))[2]


def _of_label(label: str, pairs: Sequence[tuple[str, str]]) -> tuple[float, float, float]:
    right = sum(expected == answered == label for expected, answered in pairs)
    predicted = sum(answered == label for _, answered in pairs)
    true = sum(expected == label for expected, _ in pairs)
    return precision_recall_f1(right, predicted, true)


def _plain(text: str) -> str:
    """White space at the ends says nothing."""
    return text.strip()
