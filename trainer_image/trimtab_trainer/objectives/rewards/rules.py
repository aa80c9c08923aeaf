"""The built-in rewards: pure functions of an answer and its prompt's row, whose meaning `contract/rewards.py` states."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import regex

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.rewards import ExactMatch, Length, RegularExpression, Reward, ValidJson, WordOverlap
from trimtab_trainer.data.prompts import Prompt
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.tasks.question_answering import word_f1

PATTERN_SECONDS = 1.0
"""A pattern that takes longer on one answer backtracks without end."""


@dataclass(frozen=True)
class Answer:
    """What a model wrote."""

    prompt: Prompt
    text: str
    """Without special tokens."""
    tokens: int
    """With the stop token."""
    is_finished: bool
    """It ends in a stop token."""

    def column(self, name: str) -> str:
        """What the prompt's row says there; rows without it were refused before."""
        return dict(self.prompt.columns)[name]


Rule = Callable[[Answer], float]


def rule_of(term: Reward) -> Rule | None:
    """The function of one term; None for a reward model.

    Raises:
        TrainerError: ConfigInvalid where a pattern is none.
    """
    if term.exact_match is not None:
        return exact_match(term.exact_match)
    if term.word_overlap is not None:
        column = term.word_overlap.column
        return lambda answer: word_f1(answer.text, answer.column(column))
    if term.regular_expression is not None:
        return matches(term.regular_expression)
    if term.json_document is not None:
        wanted = term.json_document
        return lambda answer: float(is_json(answer.text, wanted))
    if term.length is not None:
        bounds = term.length
        return lambda answer: within(answer.tokens, bounds)
    return None


def columns_needed(terms: Sequence[Reward]) -> list[str]:
    """The columns that every prompt's row must have."""
    compared = [term.exact_match or term.word_overlap for term in terms]
    return list(dict.fromkeys(one.column for one in compared if isinstance(one, ExactMatch | WordOverlap)))


def exact_match(settings: ExactMatch) -> Rule:
    """1 where the answer, or what is extracted from it, is the column's text."""
    pattern = compiled(settings.extract) if settings.extract else None

    def judge(answer: Answer) -> float:
        found = answer.text if pattern is None else last_match(pattern, answer.text)
        if found is None:
            return 0.0
        given, expected = found.strip(), answer.column(settings.column).strip()
        return float(given.casefold() == expected.casefold() if settings.ignore_case else given == expected)

    return judge


def matches(settings: RegularExpression) -> Rule:
    """1 where the pattern is found, or is the whole answer."""
    pattern = compiled(settings.pattern)

    def judge(answer: Answer) -> float:
        with_limit = {"timeout": PATTERN_SECONDS}
        try:
            found = (
                pattern.fullmatch(answer.text.strip(), **with_limit)
                if settings.whole
                else pattern.search(answer.text, **with_limit)
            )
        except TimeoutError as error:
            raise _endless(pattern) from error
        return float(found is not None)

    return judge


def is_json(text: str, settings: ValidJson) -> bool:
    """One document as RFC 8259 has it, and an object with the keys that are asked for."""
    try:
        found = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    keys = settings.required_keys
    return not keys or (isinstance(found, dict) and all(key in found for key in keys))


def within(tokens: int, bounds: Length) -> float:
    """1 within the bounds, then down to 0 over the tolerance."""
    below = max(0, (bounds.minimum_tokens or 0) - tokens)
    above = max(0, tokens - bounds.maximum_tokens) if bounds.maximum_tokens is not None else 0
    beyond = max(below, above)
    return max(0.0, 1 - beyond / bounds.tolerance_tokens) if bounds.tolerance_tokens else float(beyond == 0)


def compiled(pattern: str) -> "regex.Pattern[str]":
    """A user's pattern, as Python's `re` would read it.

    Raises:
        TrainerError: ConfigInvalid.
    """
    try:
        return regex.compile(pattern, regex.VERSION0)
    except regex.error as error:
        raise TrainerError(
            TrainerReason.CONFIG_INVALID, f"`rewards`: '{pattern}' must be a regular expression: {error}."
        ) from error


def last_match(pattern: "regex.Pattern[str]", text: str) -> str | None:
    """Its first group, or all of it."""
    found = None
    try:
        for found in pattern.finditer(text, timeout=PATTERN_SECONDS):  # noqa: B007 - the last one is wanted
            pass
    except TimeoutError as error:
        raise _endless(pattern) from error
    if found is None:
        return None
    return str((found[1] or "") if pattern.groups else found[0])


def _endless(pattern: "regex.Pattern[str]") -> TrainerError:
    return TrainerError(
        TrainerReason.CONFIG_INVALID,
        f"`rewards`: the pattern '{pattern.pattern}' took more than {PATTERN_SECONDS:g} s on one answer. "
        "Write it without nested repetitions.",
    )


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
