"""Examples as a model sees them: tokens, and which of them carry loss."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class ModelInput(Protocol):
    """One example as a model sees it, as far as splits, batches and the loop know it. Each kind is one dataclass."""

    @property
    def length(self) -> int:
        """What it costs in a forward pass, in tokens or what stands for them: patches of an image, frames of a recording."""

    @property
    def targets(self) -> int:
        """Tokens that carry loss, for the summary of the data; 0 where examples carry it as a whole."""

    @property
    def is_learnable(self) -> bool:
        """Something carries loss."""

    @property
    def cut(self) -> bool:
        """A part of it is not seen."""


def cost(example: ModelInput) -> int:
    """Tokens of its forward pass: more than its own where a model writes an answer to it."""
    return int(getattr(example, "cost", example.length))


@dataclass(frozen=True, slots=True)
class Encoded:
    """A text as the model sees it."""

    ids: NDArray[np.int32]
    """Token ids, shape [length]."""
    supervised: NDArray[np.bool_]
    """Which tokens carry loss as a target, shape [length]; the first never does: nothing predicts it."""
    label: int = -1
    """Class index; -1 for language modelling."""
    cut: bool = False
    """Longer than the maximum sequence length."""
    example: int | None = None
    """Index of the example it is a part of, where an encoder makes several of one; None: each example is one."""
    bytes: int = 0
    """UTF-8 bytes of the text that its supervised tokens stand for; 0 where nobody asks."""

    @property
    def length(self) -> int:
        """Tokens."""
        return len(self.ids)

    @property
    def is_learnable(self) -> bool:
        """Something carries loss."""
        return self.label >= 0 or bool(self.supervised.any())

    @property
    def targets(self) -> int:
        """Tokens that carry loss."""
        return int(self.supervised.sum())


@dataclass(frozen=True, slots=True)
class Pair(Encoded):
    """Two sequences that are compared: the tokens of the chosen one, then those of the rejected one."""

    border: int = 0
    """Where the rejected one begins."""

    @property
    def chosen(self) -> Encoded:
        """The better one."""
        return Encoded(self.ids[: self.border], self.supervised[: self.border])

    @property
    def rejected(self) -> Encoded:
        """The other one."""
        return Encoded(self.ids[self.border :], self.supervised[self.border :])

    @property
    def is_learnable(self) -> bool:
        """Both have an answer within the limit, and not the same."""
        left, right = self.chosen, self.rejected
        return left.targets > 0 and right.targets > 0 and not np.array_equal(left.ids, right.ids)


def show(encoded: Encoded, tokenizer: Any) -> list[tuple[bool, str]]:
    """`(supervised, text)` pieces of one example, decoded from its tokens: what the report shows a reader."""
    pieces: list[tuple[bool, list[int]]] = []
    for token, supervised in zip(encoded.ids.tolist(), encoded.supervised.tolist(), strict=True):
        if not pieces or pieces[-1][0] != supervised:
            pieces.append((supervised, []))
        pieces[-1][1].append(token)
    return [(supervised, tokenizer.decode(ids, skip_special_tokens=False)) for supervised, ids in pieces]
