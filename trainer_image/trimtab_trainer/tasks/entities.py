"""Entities in sequences of tags, as seqeval (1.2.2, default mode) and conlleval before it find them."""

from collections.abc import Sequence

Entity = tuple[str, int, int]
"""`(type, first word, last word)`."""
OUTSIDE = "O"


def entities(tags: Sequence[str]) -> set[Entity]:
    """The entities of one sequence.

    B begins one; so does I (or E, S) after O or after another type: the lenient reading that is common for IOB2. A tag
    without a prefix, such as a part of speech, is an entity of its own type at each word.
    """
    found: set[Entity] = set()
    start, last = 0, (OUTSIDE, "")
    for place, tag in enumerate([*tags, OUTSIDE]):
        prefix, kind = _parts(tag)
        is_inside = last[0] != OUTSIDE
        continues = is_inside and prefix in {"I", "E"} and last[0] in {"B", "I"} and kind == last[1]
        if is_inside and not continues:
            found.add((last[1], start, place - 1))
        if not continues:
            start = place
        last = (prefix, kind)
    return found


def _parts(tag: str) -> tuple[str, str]:
    """Prefix and type; words without a prefix stand alone."""
    if tag == OUTSIDE:
        return OUTSIDE, ""
    prefix, dash, kind = tag.partition("-")
    return (prefix, kind) if dash and prefix in {"B", "I", "E", "S"} else ("S", tag)
