"""What a model's `config.json` and safetensors headers say, before a single weight is read."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.errors import TrainerError

HEADER_LIMIT = 100_000_000
"""Bytes; the format's own limit."""


@dataclass(frozen=True)
class ModelFacts:
    """Sizes and names of a model on disk."""

    config: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...]]
    """Shape of each weight by name."""

    @property
    def parameters(self) -> int:
        """All weights."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    @property
    def is_quantized(self) -> bool:
        """Its matrices have fewer bits than they were trained with."""
        return "quantization_config" in self.config

    @property
    def layers(self) -> int:
        """Transformer blocks."""
        return self._size("num_hidden_layers", "n_layer", "num_layers", default=12)

    @property
    def width(self) -> int:
        """Hidden size."""
        return self._size("hidden_size", "n_embd", "d_model", "dim", default=768)

    @property
    def key_width(self) -> int:
        """Of the keys (and values) of one layer, over all of its heads."""
        heads = self._size("num_attention_heads", "n_head", default=12)
        return self.width // heads * self._size("num_key_value_heads", default=heads)

    @property
    def inner_width(self) -> int:
        """Of the feed-forward part."""
        return self._size("intermediate_size", "n_inner", "d_ff", "hidden_dim", default=4 * self.width)

    @property
    def words(self) -> int:
        """Of its vocabulary; 0 where it has none."""
        return self._size("vocab_size", default=0)

    @property
    def linear_layers(self) -> dict[str, tuple[int, ...]]:
        """Modules that an adapter can be put on, with their shapes: matrices that are neither embeddings nor the head."""
        return {
            name.removesuffix(".weight"): shape
            for name, shape in self.shapes.items()
            if name.endswith(".weight") and len(shape) == 2 and "embed" not in name and self.words not in shape  # noqa: PLR2004
        }

    @property
    def head_size(self) -> int:
        """Weights of a language-modelling head."""
        return self.width * self.words

    def _size(self, *names: str, default: int) -> int:
        text = self.config.get("text_config") or {}
        found = (value for name in names for value in (self.config.get(name), text.get(name)) if isinstance(value, int))
        return next(found, default)


def read_model_facts(directory: Path) -> ModelFacts:
    """Read the headers.

    Raises:
        TrainerError: ModelInvalid where a file is missing or not what it says.
    """
    try:
        config = json.loads((directory / "config.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise TrainerError(TrainerReason.MODEL_INVALID, f"The model's config.json cannot be read: {error}") from error
    files = sorted(directory.glob("*.safetensors"))
    if not files:
        raise TrainerError(
            TrainerReason.MODEL_INVALID, "The model has no *.safetensors file; other formats are not loaded."
        )
    shapes: dict[str, tuple[int, ...]] = {}
    for file in files:
        shapes |= _header_shapes(file)
    return ModelFacts(config, shapes)


def _header_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    try:
        with file.open("rb") as content:
            size = int.from_bytes(content.read(8), "little")
            header = json.loads(content.read(min(size, HEADER_LIMIT)))
        return {name: tuple(entry["shape"]) for name, entry in header.items() if name != "__metadata__"}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise TrainerError(TrainerReason.MODEL_INVALID, f"{file.name} is not a safetensors file: {error}") from error
