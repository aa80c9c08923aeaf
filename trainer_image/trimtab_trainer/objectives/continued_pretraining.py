"""Objective continuedPretraining: raw documents whole, long ones over several rows, and perplexity per byte."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.data.encoded import Encoded
from trimtab_trainer.data.encoding import EXAMPLES_PER_TOKENIZER_CALL, beginning_of, in_chunks
from trimtab_trainer.data.formats import Example, Text
from trimtab_trainer.tasks.language_modeling import CausalLanguageModeling, check_end_token


@dataclass
class DocumentEncoder:
    """Documents to rows of at most `max_length` tokens.

    Consecutive rows of one document overlap by one token: the last one of a row is what predicts the next row's first new
    one, so every token after a document's first is a target exactly once.
    """

    tokenizer: Any
    max_length: int
    _bos: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self._bos = beginning_of(self.tokenizer)

    def encode(self, examples: Iterable[Example]) -> list[Encoded]:
        """All rows, in the order of the documents."""
        rows: list[Encoded] = []
        number = 0
        for chunk in in_chunks(examples, EXAMPLES_PER_TOKENIZER_CALL):
            texts = [example.content.text if isinstance(example.content, Text) else "" for example in chunk]
            found = self.tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)
            for text, ids, offsets in zip(texts, found.input_ids, found.offset_mapping, strict=True):
                rows += self._rows(number, text, ids, [start for start, _ in offsets])
                number += 1
        return rows

    def _rows(self, number: int, text: str, ids: list[int], starts: list[int]) -> list[Encoded]:
        ids = [*self._bos, *ids, self.tokenizer.eos_token_id]
        # starts[i] is the character at which token i of the row begins; the end token stands for no character.
        starts = [*([0] * len(self._bos)), *starts, len(text)]
        borders = [*range(0, max(len(ids) - 1, 1), self.max_length - 1), len(ids) - 1]
        return [
            Encoded(
                np.asarray(ids[first : last + 1], np.int32),
                np.arange(last + 1 - first) > 0,
                example=number,
                bytes=len(text[_start_of(starts, first + 1) : _start_of(starts, last + 1)].encode()),
            )
            for first, last in pairwise(borders)
        ]


def _start_of(starts: list[int], token: int) -> int:
    return starts[min(token, len(starts) - 1)]


class ContinuedPretrainingOfLanguageModels(CausalLanguageModeling):
    """The next token of raw documents."""

    metric_names = (*CausalLanguageModeling.metric_names, "byte_perplexity")
    formats = ("text",)

    def data_warnings(self, encoder: Any, train: Sequence[Any]) -> list[str]:
        """Nothing that the summary of the data does not say."""
        del encoder, train
        return []

    def encoder(self, config: RunConfig, directory: Path, processor: Any, labels: tuple[str, ...]) -> DocumentEncoder:
        """Documents as they stand, with the tokenizer's marks at both ends."""
        del directory, labels
        check_end_token(processor)
        return DocumentEncoder(processor, config.data.max_sequence_length)
