"""Pairs of answers as a model sees them."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from trimtab_trainer.data.encoded import Encoded, Pair
from trimtab_trainer.data.encoding import TextEncoder
from trimtab_trainer.data.formats import Chat, Completion, Example
from trimtab_trainer.data.prompts import Preference
from trimtab_trainer.data.values import Turns


@dataclass(frozen=True)
class PairEncoder:
    """Preferences: each answer with its prompt as it would be learned from."""

    text: TextEncoder
    """With `only_last_answer`."""

    def encode_conversation(self, turns: Turns) -> Encoded:
        """One conversation that ends with an answer, to be scored.

        Raises:
            TrainerError: DatasetInvalid where the chat template refuses it, ModelInvalid where there is none.
        """
        return self.text.encode([Example("request", Chat(turns))])[0]

    def encode(self, examples: Iterable[Example]) -> list[Encoded]:
        """All pairs in their order."""
        pairs = [(example, example.content) for example in examples if isinstance(example.content, Preference)]
        chosen = self.text.encode(replace(example, content=_with_answer(row, row.chosen)) for example, row in pairs)
        rejected = self.text.encode(replace(example, content=_with_answer(row, row.rejected)) for example, row in pairs)
        return [
            Pair(
                np.concatenate([left.ids, right.ids]),
                np.concatenate([left.supervised, right.supervised]),
                cut=left.cut or right.cut,
                border=left.length,
            )
            for left, right in zip(chosen, rejected, strict=True)
        ]


def _with_answer(row: Preference, answer: str | Turns) -> Chat | Completion:
    if isinstance(row.prompt, str) and isinstance(answer, str):
        return Completion(row.prompt, answer)
    if isinstance(row.prompt, str) or isinstance(answer, str):
        raise TypeError("a preference is all text or all messages")
    return Chat((*row.prompt, *answer))
