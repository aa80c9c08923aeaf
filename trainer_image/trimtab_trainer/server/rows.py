"""Rows of a running batch: each request keeps its own keys, values and length, so that it joins and leaves at any step.

Every row writes at its own column and sees only its own columns, so rows of different lengths need no padding on the
left and nothing moves when a neighbour comes or goes. Against transformers' DynamicCache with left padding (which copies
the whole cache at every step, and again at every join) one step of SmolLM2-135M took these CPU milliseconds on one core:
8 rows of 64 tokens 153 (DynamicCache 152), of 512 tokens 178 (260), of 2,048 tokens 255 (631); one row of 512 tokens
66 (80). Measured by tests/benchmarks/server_cache.py.
"""

from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

_FIRST_COLUMNS = 128
"""Columns of the first allocation; they double as rows grow, so that short requests cost little memory."""


@dataclass
class _Window:
    """Where the step that runs now writes and reads; shared by all layers."""

    rows: Any = None
    """Row indices, shape [rows, 1]; None where all rows write at the same columns."""
    columns: Any = None
    """Columns to write, shape [rows, tokens]."""
    start: int = 0
    """Columns that the longest row filled before this step."""
    width: int = 0
    """Columns that it fills after this step."""


class _RowLayer(CacheLayerMixin):
    """Keys and values of one layer, shape [rows, heads, columns, head size]."""

    def __init__(self, window: _Window, max_rows: int) -> None:
        super().__init__()
        self._window, self._max_rows = window, max_rows

    def lazy_initialization(self, key_states: Any, value_states: Any) -> None:
        """Take shape, type and device from the first keys and values."""
        self.keys = self._room(key_states, _FIRST_COLUMNS)
        self.values = self._room(value_states, _FIRST_COLUMNS)
        self.is_initialized = True

    def update(self, key_states: Any, value_states: Any, *_args: Any, **_kwargs: Any) -> tuple[Any, Any]:
        """Write this step's keys and values; all that the rows hold now."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        window, rows = self._window, len(key_states)
        self.reserve(window.width)
        if window.rows is None:
            self.keys[:rows, :, window.start : window.width] = key_states
            self.values[:rows, :, window.start : window.width] = value_states
        else:
            self.keys[window.rows, :, window.columns] = key_states.transpose(1, 2)
            self.values[window.rows, :, window.columns] = value_states.transpose(1, 2)
        return self.keys[:rows, :, : window.width], self.values[:rows, :, : window.width]

    def reserve(self, columns: int) -> None:
        """Make room for longer rows."""
        have = self.keys.shape[2]
        if columns > have:
            self.keys = _copied(self.keys, self._room(self.keys, max(columns, 2 * have)))
            self.values = _copied(self.values, self._room(self.values, max(columns, 2 * have)))

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:  # noqa: ARG002 - the interface of transformers
        """Number of columns, and the first one."""
        return self._window.width, 0

    def get_seq_length(self) -> int:
        """Columns in use before this step."""
        return self._window.start

    def get_max_length(self) -> int:
        """No limit of its own."""
        return -1

    def _room(self, like: Any, columns: int) -> Any:
        # Zeros: what lies beyond a row's length is masked, but 0 x NaN from uninitialised memory would still be NaN.
        return torch.zeros(
            (self._max_rows, like.shape[1], columns, like.shape[3]), dtype=like.dtype, device=like.device
        )


def _copied(source: Any, target: Any) -> Any:
    target[:, :, : source.shape[2]] = source
    return target


@dataclass(frozen=True, eq=False)
class Prefix:
    """Keys and values that stand before a text without being tokens of it."""

    layers: tuple[tuple[Any, Any], ...]
    """Of each layer, shape [heads, length, head size]."""
    length: int


class Rows:
    """A causal language model's batch, as rows that grow by any number of tokens a step."""

    def __init__(self, model: Any, *, max_rows: int) -> None:
        self._model = model
        self._window = _Window()
        config = model.config.get_text_config(decoder=True)
        self.layers = [_RowLayer(self._window, max_rows) for _ in range(config.num_hidden_layers)]
        self._cache = Cache(layers=self.layers)
        self._attention = attention_kinds(config)
        self._sliding_window = getattr(config, "sliding_window", None)
        self.lengths: list[int] = []

    @property
    def columns(self) -> int:
        """Columns that memory is held for."""
        first = self.layers[0]
        return int(first.keys.shape[2]) if first.is_initialized else 0

    def add(self, count: int = 1) -> None:
        """Begin empty rows at the end."""
        self.lengths += [0] * count

    def begin(self, row: int, prefix: Prefix) -> None:
        """What an empty row begins with."""
        for layer, (keys, values) in zip(self.layers, prefix.layers, strict=True):
            if not layer.is_initialized:
                layer.lazy_initialization(keys[None], values[None])
            layer.reserve(prefix.length)
            layer.keys[row, :, : prefix.length] = keys
            layer.values[row, :, : prefix.length] = values
        self.lengths[row] = prefix.length

    def advance(self, tokens: list[list[int]]) -> Any:
        """Append tokens to every row (at least one each); the logits after each row's last one, shape [rows, vocabulary]."""
        device = self._model.device
        longest = max(len(new) for new in tokens)
        inputs = torch.tensor([new + [0] * (longest - len(new)) for new in tokens], device=device)
        starts = torch.tensor(self.lengths, device=device)[:, None]
        positions = starts + torch.arange(longest, device=device)
        # What padding writes beyond a row's end is seen by nobody, and the row's next token overwrites it.
        window, level = self._window, min(self.lengths) == max(self.lengths)
        window.rows = None if level else torch.arange(len(tokens), device=device)[:, None]
        window.columns, window.start, window.width = positions, max(self.lengths), max(self.lengths) + longest
        ends = [len(new) - 1 for new in tokens]
        kept = sorted(set(ends))
        logits = self._model(
            input_ids=inputs,
            # Rows of one length are what the model expects: no mask of ours, and attention takes its fastest way.
            attention_mask=None if level else self._mask(positions),
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=torch.tensor(kept, device=device),
        ).logits
        self.lengths = [length + len(new) for length, new in zip(self.lengths, tokens, strict=True)]
        return logits[torch.arange(len(tokens), device=device), [kept.index(end) for end in ends]]

    def move_from(self, other: "Rows", row: int) -> None:
        """Append a copy of another batch's row."""
        length = other.lengths[row]
        for mine, theirs in zip(self.layers, other.layers, strict=True):
            if not mine.is_initialized:
                mine.lazy_initialization(theirs.keys, theirs.values)
            mine.reserve(length)
            mine.keys[len(self.lengths), :, :length] = theirs.keys[row, :, :length]
            mine.values[len(self.lengths), :, :length] = theirs.values[row, :, :length]
        self.lengths.append(length)

    def drop(self, row: int) -> None:
        """End a row: the last one takes its place."""
        last = len(self.lengths) - 1
        if row != last:
            length = self.lengths[last]
            for layer in self.layers:
                layer.keys[row, :, :length] = layer.keys[last, :, :length]
                layer.values[row, :, :length] = layer.values[last, :, :length]
        self.lengths[row] = self.lengths[last]
        self.lengths.pop()

    def _mask(self, positions: Any) -> Any:
        """Who sees what: each token its own row's columns up to itself, or the last few of them where a window slides."""
        columns = torch.arange(self._window.width, device=positions.device)
        full = (columns <= positions[..., None])[:, None]
        if self._attention == {"full_attention"}:
            return full
        sliding = full & (columns > positions[..., None] - self._sliding_window)[:, None]
        if self._attention == {"sliding_attention"}:
            return sliding
        return {"full_attention": full, "sliding_attention": sliding}


def attention_kinds(config: Any) -> set[str]:
    """Kinds of attention layers, as transformers names them."""
    kinds = getattr(config, "layer_types", None)
    if kinds:
        return set(kinds)
    return {"sliding_attention" if getattr(config, "sliding_window", None) else "full_attention"}
