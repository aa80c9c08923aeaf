"""The language of texts, by py3langid: 142 languages, no network, 4 MB (Lui and Baldwin, 2012, ACL P12-3005)."""

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from py3langid.langid import MODEL_FILE, LanguageIdentifier

from trimtab_trainer.contract.data_checks import Languages
from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.data.formats import Example
from trimtab_trainer.data.words import said_in
from trimtab_trainer.errors import TrainerError

NOT_TOLD = ("und", "zxx")
"""ISO 639: a language that cannot be told, because a text is short or mixed, and words of no language."""
CONFIDENCE = 0.5
"""Probability below which a language is not told."""
LOOKED_AT = 2000
"""Characters of a text; 0.05 ms for each 200."""


@lru_cache(maxsize=1)
def _detector() -> Any:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True, min_confidence=CONFIDENCE)


def release_detector() -> None:
    """Give its 80 MB back."""
    _detector.cache_clear()


def language_of(text: str) -> str:
    """ISO 639 code."""
    return str(_detector().classify(text[:LOOKED_AT])[0])


def is_expected(language: str, expected: Sequence[str]) -> bool:
    """Whether a text may stay; what cannot be told may."""
    return language in (*expected, *NOT_TOLD)


def in_expected_languages(examples: Sequence[Example], settings: Languages) -> tuple[list[Example], list[str]]:
    """The training examples that stay, and a warning about those that do not.

    Raises:
        TrainerError: ConfigInvalid for a code that the detector does not know, DatasetInvalid where no example stays.
    """
    known = _detector().labels
    if unknown := [code for code in settings.expected if code not in known]:
        raise TrainerError(
            TrainerReason.CONFIG_INVALID,
            f"`data.languages.expected: {unknown[0]}` is no language that can be told; must be among: {', '.join(sorted(known))}.",
        )
    if settings.others != "Drop":
        return list(examples), []
    languages = [language_of(said_in(example.content)) for example in examples]
    kept = [
        example
        for example, language in zip(examples, languages, strict=True)
        if is_expected(language, settings.expected)
    ]
    others = Counter(language for language in languages if not is_expected(language, settings.expected))
    if not kept:
        raise TrainerError(
            TrainerReason.DATASET_INVALID,
            f"`data.languages` leaves none of {len(examples)} training examples: they are in {counted(others)}. "
            f"Expected: {', '.join(settings.expected)}.",
        )
    if not others:
        return kept, []
    warning = (
        f"{others.total()} of {len(examples)} training examples are in other languages than {', '.join(settings.expected)} "
        f"({counted(others)}) and were left out."
    )
    return kept, [warning]


def counted(languages: Counter[str]) -> str:
    """`de: 12, fr: 3`, the most frequent first."""
    return ", ".join(f"{language}: {count}" for language, count in languages.most_common(8))
