"""Texts that are changed before anything reads them: normalised everywhere, augmented in the training split."""

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from trimtab_trainer.contract.practices import Normalization, TextAugmentation
from trimtab_trainer.data.formats import Example, Labelled


def normalized(examples: Sequence[Example], settings: Normalization) -> list[Example]:
    """The same examples with every text in one form, labels included."""

    def change(text: str) -> str:
        text = unicodedata.normalize(settings.unicode, text)
        return " ".join(text.split()) if settings.collapse_whitespace else text

    return [replace(example, content=_changed(example.content, change)) for example in examples]


def _changed(content: Any, change: Callable[[str], str]) -> Any:
    return replace(content, **{item.name: _each(getattr(content, item.name), change) for item in fields(content)})


def _each(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    return tuple(_each(one, change) for one in value) if isinstance(value, tuple) else value


def augmented(examples: Sequence[Example], settings: TextAugmentation, *, seed: int) -> list[Example]:
    """Each labelled example and its changed copies; the same copies for the same seed, wherever an example stands."""
    found: list[Example] = []
    for example in examples:
        found.append(example)
        if not isinstance(example.content, Labelled):
            continue
        for copy in range(settings.copies):
            random = np.random.default_rng([seed, copy, int(example.fingerprint[:16], 16)])
            text = changed_words(example.content.text, settings, random)
            content = Labelled(text, example.content.label)
            found.append(replace(example, content=content, place=f"{example.place}, changed copy {copy + 1}"))
    return found


def changed_words(text: str, settings: TextAugmentation, random: np.random.Generator) -> str:
    """Some words swapped, some left out."""
    words = text.split()
    for _ in range(round(settings.word_swaps * len(words)) if len(words) > 1 else 0):
        left, right = random.choice(len(words), size=2, replace=False)
        words[left], words[right] = words[right], words[left]
    kept = [
        word for word, chance in zip(words, random.random(len(words)), strict=True) if chance >= settings.word_dropout
    ]
    return " ".join(kept or words[:1])
