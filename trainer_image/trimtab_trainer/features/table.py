"""Where features lie: in memory, or in a memory-mapped safetensors file on the scratch volume."""

import json
import os
from collections.abc import Mapping, Sequence
from itertools import accumulate, chain
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trimtab_trainer.features.layout import Part

_TYPES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.float64: "F64"}
"""As safetensors calls them."""


class FeatureTable:
    """What a head reads of every row."""

    def __init__(self, parts: Sequence[Part], lengths: Sequence[int], file: Path | None) -> None:
        """Room for all rows.

        Args:
            parts: of the trunk's output.
            lengths: positions of each row.
            file: to be made and mapped; None keeps everything in memory.

        Raises:
            OSError: the volume has no room for the file.
        """
        self.parts = parts
        self._lengths = lengths
        self._starts = [0, *accumulate(lengths)]
        shapes = {part.name: (part.entries(lengths), *part.shape) for part in parts}
        types = {part.name: part.dtype for part in parts}
        if file is None:
            self._tensors = {name: torch.empty(shape, dtype=types[name]) for name, shape in shapes.items()}
        else:
            self._tensors = mapped_tensors(file, shapes, types)

    def put(self, rows: Sequence[int], values: Mapping[str, Tensor]) -> None:
        """Keep what a batch of rows came to."""
        lengths = [self._lengths[row] for row in rows]
        for part in self.parts:
            kept = part.kept(values[part.name].detach(), lengths).to("cpu")
            self._tensors[part.name][self._places(part, rows)] = kept

    def get(self, rows: Sequence[int], device: torch.device) -> dict[str, Tensor]:
        """A batch of rows as the trunk would give it."""
        lengths = [self._lengths[row] for row in rows]
        return {
            part.name: part.whole(self._tensors[part.name][self._places(part, rows)], lengths).to(device)
            for part in self.parts
        }

    def _places(self, part: Part, rows: Sequence[int]) -> Tensor:
        """Indices of the rows' entries."""
        if not part.is_of_positions:
            return torch.tensor(rows)
        return torch.tensor(list(chain.from_iterable(range(self._starts[row], self._starts[row + 1]) for row in rows)))


def mapped_tensors(
    file: Path, shapes: Mapping[str, tuple[int, ...]], types: Mapping[str, torch.dtype]
) -> dict[str, Tensor]:
    """Tensors of zeros that live in a new safetensors file: what is written to them is written there.

    Raises:
        OSError: the volume has no room for it.
    """
    header, start = {}, 0
    for name, shape in shapes.items():
        end = start + prod(shape) * types[name].itemsize
        header[name] = {"dtype": _TYPES[types[name]], "shape": list(shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at multiples of 8, as the format wants it
    with file.open("wb") as target:
        target.write(len(text).to_bytes(8, "little") + text)
        target.flush()
        # Reserved, not only promised: writing to a mapped page that finds no room would end the process.
        os.posix_fallocate(target.fileno(), 0, max(8 + len(text) + start, 1))
    flat = torch.from_numpy(np.memmap(file, np.uint8, mode="r+", offset=8 + len(text), shape=(max(start, 1),)))
    found = {}
    for name, shape in shapes.items():
        first, last = header[name]["data_offsets"]
        found[name] = flat[first:last].view(types[name]).view(shape)
    return found
