"""Prompts as a model that answers them sees them."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trimtab_trainer.data.encoding import TextEncoder
from trimtab_trainer.data.formats import Example
from trimtab_trainer.data.prompts import Prompt


@dataclass(frozen=True, slots=True)
class EncodedPrompt:
    """A prompt up to where the answer begins."""

    ids: NDArray[np.int32]
    """Token ids, shape [length]."""
    content: Prompt
    """With what rewards compare answers with."""
    room: int
    """Longest answer, in tokens."""
    max_length: int
    """Of prompt and answer together."""
    cut: bool = False
    """A part of a question is another question: prompts are never cut."""

    @property
    def length(self) -> int:
        """Tokens."""
        return len(self.ids)

    @property
    def cost(self) -> int:
        """With the longest answer."""
        return self.length + self.room

    @property
    def targets(self) -> int:
        """Rewards are for whole answers."""
        return 0

    @property
    def is_learnable(self) -> bool:
        """There is room for an answer."""
        return self.length > 0 and self.cost <= self.max_length


@dataclass(frozen=True)
class PromptEncoder:
    """Prompts, by the model's chat template where it has one."""

    text: TextEncoder
    room: int

    @property
    def tokenizer(self) -> object:
        """Of the model."""
        return self.text.tokenizer

    @property
    def stop_ids(self) -> frozenset[int]:
        """Tokens at which an answer ends."""
        return self.text.stop_ids

    def encode(self, examples: Iterable[Example]) -> list[EncodedPrompt]:
        """All prompts in their order."""
        return [
            EncodedPrompt(np.asarray(self.prompt_ids(example), np.int32), content, self.room, self.text.max_length)
            for example in examples
            if isinstance(content := example.content, Prompt)
        ]

    def prompt_ids(self, example: Example) -> list[int]:
        """The tokens a server would start generating from."""
        if not isinstance(example.content, Prompt):
            raise TypeError("a prompt is needed")
        return self.text.asked(example.content.prompt, example.place)
