"""Which rows make which step: a pure function of (seed, step), so that a resume needs no reader state."""

from bisect import bisect_left, insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from heapq import heapreplace

import numpy as np
from numpy.typing import NDArray

Row = tuple[int, ...]
"""Indices of the examples in one row: one without packing, several with it."""
PACKING_WINDOW = 2048
"""Examples looked at together when rows are filled; bounds the time and keeps neighbours random."""
LENGTH_WINDOW = 50
"""Global batches sorted by length together, as `transformers` groups by length."""


def pack(lengths: Sequence[int], *, capacity: int, seed: int) -> list[Row]:
    """Fill rows of at most `capacity` tokens with whole examples: best fit, longest first, within windows of random order.

    `lengths` are the tokens of each example; none may exceed `capacity`.
    """
    order = np.random.default_rng([seed, 0]).permutation(len(lengths)).tolist()
    rows: list[Row] = []
    for start in range(0, len(order), PACKING_WINDOW):
        window = sorted(order[start : start + PACKING_WINDOW], key=lambda index: (-lengths[index], index))
        rows += _best_fit(window, lengths, capacity)
    return rows


def _best_fit(window: Sequence[int], lengths: Sequence[int], capacity: int) -> list[Row]:
    filled: list[list[int]] = []
    free: list[tuple[int, int]] = []  # (free tokens, row), sorted: the first that is large enough is the tightest
    for index in window:
        position = bisect_left(free, (lengths[index], -1))
        if position < len(free):
            room, row = free.pop(position)
            filled[row].append(index)
        else:
            room, row = capacity, len(filled)
            filled.append([index])
        insort(free, (room - lengths[index], row))
    return [tuple(row) for row in filled]


@dataclass
class BatchPlan:
    """The order of all rows over all epochs."""

    rows: Sequence[Row]
    lengths: Sequence[int]
    """Tokens of each row."""
    global_batch_size: int
    seed: int
    weights: Sequence[float] = ()
    """How often an epoch shows each row that is not replayed; empty: once."""
    group_by_length: bool = False
    """Rows of like length share a batch: less padding, at the price of batches that are no longer uniform samples."""
    short_first_epochs: int = 0
    """In so many first epochs rows come from short to long."""
    probabilities: Sequence[float] | None = None
    """How likely each row is drawn, with replacement; None: an epoch has each row once. Not of replayed rows."""
    replay_rows: int = 0
    """The last so many of `rows` are general data."""
    replays_per_epoch: int = 0
    """How many of those each epoch draws; the others are in it as always."""
    steps_per_epoch: int = field(init=False)
    """The last batch of an epoch may be smaller."""
    _cache: tuple[int, list[int]] = field(default=(-1, []), init=False)

    def __post_init__(self) -> None:
        own = len(self._shown(np.random.default_rng(0)))  # which ones differs, how many does not
        self.steps_per_epoch = -(-(own + self.replays_per_epoch) // self.global_batch_size)

    def global_batch(self, step: int) -> list[Row]:
        """The rows of step `step` (the first is 0), longest first so that each micro batch holds like lengths."""
        epoch, position = divmod(step, self.steps_per_epoch)
        order = self._order(epoch)
        chosen = order[position * self.global_batch_size : (position + 1) * self.global_batch_size]
        return [self.rows[row] for row in sorted(chosen, key=lambda row: (-self.lengths[row], row))]

    def _order(self, epoch: int) -> list[int]:
        if self._cache[0] != epoch:
            self._cache = (epoch, self._make_order(epoch))
        return self._cache[1]

    def _make_order(self, epoch: int) -> list[int]:
        generator = np.random.default_rng([self.seed, 1, epoch])
        own = len(self.rows) - self.replay_rows
        order = generator.permutation(self._shown(generator))
        if self.probabilities is not None:
            order = generator.choice(own, size=len(order), p=self.probabilities)
        if self.replay_rows:
            rounds = -(-self.replays_per_epoch // self.replay_rows)
            replayed = np.concatenate([generator.permutation(self.replay_rows) for _ in range(rounds)])
            order = generator.permutation(np.concatenate([order, own + replayed[: self.replays_per_epoch]]))
        if epoch < self.short_first_epochs:
            return [int(row) for row in order[np.argsort(np.asarray(self.lengths)[order], kind="stable")]]
        if not self.group_by_length:
            return [int(row) for row in order]
        size, lengths = self.global_batch_size, np.asarray(self.lengths)
        windows = [order[start : start + LENGTH_WINDOW * size] for start in range(0, len(order), LENGTH_WINDOW * size)]
        grouped = np.concatenate([window[np.argsort(-lengths[window], kind="stable")] for window in windows])
        full = len(grouped) // size * size
        batches = generator.permutation(grouped[:full].reshape(-1, size)).reshape(-1)
        return [int(row) for row in np.concatenate([batches, grouped[full:]])]

    def _shown(self, generator: np.random.Generator) -> NDArray[np.int64]:
        """The rows of one epoch, as often as it shows them; of fractions, the `generator` draws which rows are in it."""
        weights = np.asarray(self.weights or [1.0] * (len(self.rows) - self.replay_rows))
        shown: list[NDArray[np.int64]] = []
        for weight in np.unique(weights):
            rows = np.flatnonzero(weights == weight)
            # At least one row in all: an epoch must have a step.
            drawn = max(round(len(rows) * (weight % 1)), int(weight < 1))
            shown += [np.repeat(rows, int(weight)), generator.permutation(rows)[:drawn] if drawn else rows[:0]]
        return np.concatenate(shown)


def total_steps(plan: BatchPlan, *, epochs: float, max_steps: int | None) -> int:
    """Optimizer steps of the whole run."""
    if max_steps is not None:
        return max_steps
    return max(1, int(np.ceil(epochs * plan.steps_per_epoch - 1e-9)))


def share_of_rank(rows: Sequence[Row], *, rank: int, world_size: int) -> list[Row]:
    """One rank's rows of a global batch; dealt in turn, as they are sorted by length."""
    return list(rows[rank::world_size])


def micro_batches(
    rows: Sequence[Row], *, size: int | None, tokens: int, length: Callable[[Row], int]
) -> list[Sequence[Row]]:
    """Cut a global batch up: `size` rows each, or, without a size, as many like-length rows as fit into `tokens` when padded.

    `rows` come longest first; `length` counts the tokens of one.
    """
    batches: list[Sequence[Row]] = []
    start = 0
    while start < len(rows):
        count = size or max(1, tokens // length(rows[start]))
        batches.append(rows[start : start + count])
        start += count
    return batches


def even_batches(rows: Sequence[Row], *, tokens: int, length: Callable[[Row], int]) -> list[list[Row]]:
    """Cut a global batch up where rows lie end to end: few batches of at most `tokens`, about equally long.

    Each row goes to the batch that has least so far (longest processing time first: Graham, 1969, doi:10.1137/0117039).
    `rows` come longest first; one that is longer than `tokens` has a batch of its own.
    """
    lengths = [length(row) for row in rows]
    count = -(-sum(lengths) // tokens)
    while True:
        batches: list[list[Row]] = [[] for _ in range(count)]
        filled = [(0, number) for number in range(count)]  # a heap: (tokens so far, batch)
        for row, added in zip(rows, lengths, strict=True):
            so_far, least = filled[0]
            batches[least].append(row)
            heapreplace(filled, (so_far + added, least))
        if all(whole <= tokens or len(batches[number]) == 1 for whole, number in filled):
            return batches
        count += 1
