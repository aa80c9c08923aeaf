"""What of a trunk's output a head reads, found by asking the gradients; and the two forms of it: kept rows, whole batches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import prod

import torch
from torch import Tensor

_WITH_POSITIONS = 3
"""Axes of [rows, positions, width]."""


class Positions(StrEnum):
    """Which positions of a row the head reads."""

    WHOLE = "whole"
    """There are none to tell apart: rows have one shape."""
    FIRST = "first"
    LAST = "last"
    EACH = "each"
    """All of a text's own; rows are of different lengths."""
    PACKED = "packed"
    """The same, and a batch has all texts one after the other in a single row."""


@dataclass(frozen=True)
class Part:
    """One tensor of the output that the head reads."""

    name: str
    positions: Positions
    dtype: torch.dtype
    shape: tuple[int, ...]
    """Of what is kept of one row; for EACH and PACKED of one position."""
    width: int = 0
    """Positions of a whole row where all rows have the same; 0 for texts."""

    def kept(self, value: Tensor, lengths: Sequence[int]) -> Tensor:
        """What is worth keeping of one batch: [rows, *shape], for EACH and PACKED the positions of all rows one after the other."""
        if self.positions is Positions.WHOLE:
            return value
        if self.positions is Positions.PACKED:
            return value[0]
        if self.positions is Positions.FIRST:
            return value[:, 0]
        if self.positions is Positions.LAST:
            return value[torch.arange(len(value)), torch.tensor(lengths) - 1]
        return torch.cat([value[row, :length] for row, length in enumerate(lengths)])

    def whole(self, kept: Tensor, lengths: Sequence[int]) -> Tensor:
        """As the trunk would give it, 0 where the head does not look."""
        if self.positions is Positions.WHOLE:
            return kept
        if self.positions is Positions.PACKED:
            return kept[None]
        value = kept.new_zeros(len(lengths), self.width or max(lengths), kept.shape[-1])
        if self.positions is Positions.FIRST:
            value[:, 0] = kept
        elif self.positions is Positions.LAST:
            value[torch.arange(len(value)), torch.tensor(lengths) - 1] = kept
        else:
            start = 0
            for row, length in enumerate(lengths):
                value[row, :length] = kept[start : start + length]
                start += length
        return value

    @property
    def is_of_positions(self) -> bool:
        """There is an entry for each position of a row, not one for the row."""
        return self.positions in {Positions.EACH, Positions.PACKED}

    def entries(self, lengths: Sequence[int]) -> int:
        """How many entries of `shape` some rows take."""
        return sum(lengths) if self.is_of_positions else len(lengths)

    def size(self, lengths: Sequence[int]) -> int:
        """Bytes of some rows."""
        return self.entries(lengths) * prod(self.shape) * self.dtype.itemsize


def parts_read(
    values: Mapping[str, Tensor], gradients: Mapping[str, Tensor | None], lengths: Sequence[int]
) -> list[Part]:
    """What to keep of a trunk's output; nothing where it does not lie row by row.

    Args:
        values: the tensors of the output for some rows.
        gradients: the loss's gradient by each of them; None where the head does not use it.
        lengths: the positions of each row; 0 where all rows have the same number.
    """
    found = []
    for name, value in values.items():
        gradient = gradients[name]
        if gradient is None:
            continue
        shape, width = tuple(value.shape[1:]), 0
        are_texts = all(lengths) and value.ndim == _WITH_POSITIONS
        if are_texts and len(lengths) > 1 and value.shape[:2] == (1, sum(lengths)):
            found.append(Part(name, Positions.PACKED, value.dtype, shape[1:]))
            continue
        if len(value) != len(lengths):
            return []
        are_texts = are_texts and value.shape[1] == max(lengths)
        positions = _positions(gradient, lengths, are_texts=are_texts)
        if positions is not Positions.WHOLE:
            shape, width = shape[1:], 0 if are_texts else value.shape[1]
        found.append(Part(name, positions, value.dtype, shape, width))
    return found


def _positions(gradient: Tensor, lengths: Sequence[int], *, are_texts: bool) -> Positions:
    if gradient.ndim != _WITH_POSITIONS:
        return Positions.WHOLE
    read = [set(row.abs().sum(-1).nonzero().flatten().tolist()) for row in gradient]
    ends = lengths if are_texts else [gradient.shape[1]] * len(read)
    if min(ends) > 1:  # where there is one position only, it is the first and the last
        if all(places == {0} for places in read):
            return Positions.FIRST
        if are_texts and all(places == {end - 1} for places, end in zip(read, ends, strict=True)):
            return Positions.LAST
    return Positions.EACH if are_texts else Positions.WHOLE
