"""ROUGE-1, ROUGE-2 and ROUGE-L (Lin, 2004): which of the reference's words an answer has, in which order.

F-measures of one answer against one reference, without stemming, as Google's `rouge-score` computes them; words of other alphabets
than the Latin one count here too.
"""

import re
from collections import Counter
from collections.abc import Sequence

_WORD = re.compile(r"[^\W_]+")


def rouge(answer: str, reference: str) -> dict[str, float]:
    """By name; 0 where one of both has no words."""
    given, expected = (_WORD.findall(text.lower()) for text in (answer, reference))
    return {
        "rouge_1": _shared(given, expected, size=1),
        "rouge_2": _shared(given, expected, size=2),
        "rouge_l": _f_measure(_longest_common(given, expected), len(given), len(expected)),
    }


def _shared(given: Sequence[str], expected: Sequence[str], *, size: int) -> float:
    """Runs of `size` words that both have, as often as both have them."""
    left, right = (
        Counter(tuple(words[start : start + size]) for start in range(len(words) - size + 1))
        for words in (given, expected)
    )
    return _f_measure((left & right).total(), left.total(), right.total())


def _longest_common(given: Sequence[str], expected: Sequence[str]) -> int:
    """Length of the longest sequence of words that both have in the same order, with gaps."""
    above = [0] * (len(expected) + 1)
    for word in given:
        row = [0]
        for place, other in enumerate(expected):
            row.append(above[place] + 1 if word == other else max(above[place + 1], row[place]))
        above = row
    return above[-1]


def _f_measure(shared: int, given: int, expected: int) -> float:
    """The harmonic mean of precision and recall."""
    return 2 * shared / (given + expected) if shared else 0.0
