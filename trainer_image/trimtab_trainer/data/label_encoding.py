"""Labelled texts as a model sees them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from trimtab_trainer.data.encoded import Encoded
from trimtab_trainer.data.encoding import EXAMPLES_PER_TOKENIZER_CALL, in_chunks
from trimtab_trainer.data.formats import Example, Labelled
from trimtab_trainer.data.labels import LabelNumbers


@dataclass(frozen=True)
class LabelEncoder:
    """Labelled texts for classification."""

    tokenizer: Any
    max_length: int
    labels: tuple[str, ...]

    def encode(self, examples: Iterable[Example]) -> list[Encoded]:
        """All examples in their order; what is too long loses its end, not its closing token.

        Raises:
            TrainerError: DatasetInvalid naming the first row whose label is unknown.
        """
        numbers = LabelNumbers(self.labels)
        encoded: list[Encoded] = []
        for chunk in in_chunks(examples, EXAMPLES_PER_TOKENIZER_CALL):
            contents = [(example.place, example.content) for example in chunk if isinstance(example.content, Labelled)]
            unlabelled = self.encode_texts([content.text for _, content in contents])
            for (place, content), one in zip(contents, unlabelled, strict=True):
                encoded.append(replace(one, label=numbers.of(content.label, place)))
        return encoded

    def encode_texts(self, texts: Sequence[str]) -> list[Encoded]:
        """Texts whose label nobody knows yet."""
        whole = self.tokenizer(list(texts)).input_ids
        cut = self.tokenizer(list(texts), truncation=True, max_length=self.max_length).input_ids
        return [
            Encoded(np.asarray(kept, np.int32), np.zeros(len(kept), np.bool_), cut=len(ids) > len(kept))
            for ids, kept in zip(whole, cut, strict=True)
        ]
