"""Rows and their order: a pure function of the seed and the step."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab_trainer.data.batches import BatchPlan, Row, even_batches, micro_batches, pack, share_of_rank, total_steps


@given(st.lists(st.integers(1, 64), max_size=300), st.integers(0, 9))
def test_packed_rows_hold_every_example_once_and_never_too_much(lengths: list[int], seed: int) -> None:
    rows = pack(lengths, capacity=64, seed=seed)
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    assert all(sum(lengths[index] for index in row) <= 64 for row in rows)
    assert rows == pack(lengths, capacity=64, seed=seed)


def test_rows_are_nearly_full() -> None:
    generator = random.Random(1)
    lengths = [generator.randint(10, 300) for _ in range(2000)]
    rows = pack(lengths, capacity=512, seed=0)
    assert sum(lengths) / (512 * len(rows)) > 0.97


def plan(count: int = 23, **changes: object) -> BatchPlan:
    rows = [(index,) for index in range(count)]
    settings = {"global_batch_size": 4, "seed": 3, "group_by_length": False, **changes}
    return BatchPlan(rows=rows, lengths=[(7 * index) % 50 + 1 for index in range(count)], **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("group_by_length", [False, True])
def test_an_epoch_holds_every_row_once_in_an_order_of_its_own(*, group_by_length: bool) -> None:
    one = plan(group_by_length=group_by_length)
    epochs = [[row for step in range(6 * epoch, 6 * epoch + 6) for row in one.global_batch(step)] for epoch in (0, 1)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(one.rows)
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("group_by_length", [False, True])
def test_weights_say_how_often_an_epoch_shows_a_row(*, group_by_length: bool) -> None:
    weights = [2.0] * 3 + [0.25] * 20
    one = plan(weights=weights, group_by_length=group_by_length)
    assert one.steps_per_epoch == 3
    epochs = [
        [row[0] for step in range(3 * epoch, 3 * epoch + 3) for row in one.global_batch(step)] for epoch in (0, 1)
    ]
    for shown in epochs:
        assert [shown.count(row) for row in range(3)] == [2, 2, 2]
        assert len([row for row in shown if row > 2]) == len({row for row in shown if row > 2}) == 5
    assert set(epochs[0]) != set(epochs[1])  # other quarters
    assert plan(weights=weights, group_by_length=group_by_length).global_batch(4) == one.global_batch(4)


def test_the_smallest_weight_still_makes_a_step() -> None:
    assert plan(2, weights=[0.01, 0.01]).steps_per_epoch == 1


def test_a_batch_does_not_depend_on_what_was_asked_before() -> None:
    asked_in_order = plan()
    for step in range(11):
        asked_in_order.global_batch(step)
    assert plan().global_batch(11) == asked_in_order.global_batch(11)


def test_another_seed_is_another_order() -> None:
    assert plan(seed=1).global_batch(0) != plan(seed=2).global_batch(0)


def test_grouped_batches_hold_like_lengths() -> None:
    grouped, mixed = plan(400, group_by_length=True), plan(400)

    def spread(one: BatchPlan) -> int:
        return sum(one.lengths[rows[0][0]] - one.lengths[rows[-1][0]] for rows in map(one.global_batch, range(90)))

    assert spread(grouped) < spread(mixed) / 10


@pytest.mark.parametrize(
    ("epochs", "max_steps", "expected"),
    [(1, None, 6), (2, None, 12), (0.5, None, 3), (0.01, None, 1), (1.1, None, 7), (1, 4, 4)],
)
def test_total_steps(epochs: float, max_steps: int | None, expected: int) -> None:
    assert total_steps(plan(), epochs=epochs, max_steps=max_steps) == expected


def test_ranks_share_a_batch_without_gap_or_double() -> None:
    rows: list[Row] = [(index,) for index in range(7)]
    shares = [share_of_rank(rows, rank=rank, world_size=3) for rank in range(3)]
    assert sorted(row for share in shares for row in share) == rows
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize(
    ("size", "tokens", "expected"),
    [
        pytest.param(2, 1, [2, 2, 1], id="as many rows as were asked for"),
        pytest.param(None, 20, [1, 2, 2], id="as many tokens as fit"),
    ],
)
def test_micro_batches(size: int | None, tokens: int, expected: list[int]) -> None:
    lengths = {(0,): 30, (1,): 10, (2,): 9, (3,): 4, (4,): 1}
    found = micro_batches(list(lengths), size=size, tokens=tokens, length=lengths.__getitem__)
    assert [len(batch) for batch in found] == expected


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        pytest.param([], [], id="no rows"),
        pytest.param([12, 5, 2, 1], [[12, 5, 2, 1]], id="a short row beside a long one costs what it has"),
        pytest.param([12, 5, 3, 1], [[12], [5, 3, 1]], id="one token too many: two batches, as even as rows allow"),
        pytest.param([8, 8, 8, 8, 8], [[8, 8], [8, 8], [8]], id="rows that leave room nobody can use"),
        pytest.param([25, 4], [[25], [4]], id="a row that is longer than the limit"),
    ],
)
def test_even_batches(lengths: list[int], expected: list[list[int]]) -> None:
    rows = [(index,) for index in range(len(lengths))]
    found = even_batches(rows, tokens=20, length=lambda row: lengths[row[0]])
    assert [[lengths[index] for (index,) in batch] for batch in found] == expected


@given(st.lists(st.integers(1, 64), min_size=1, max_size=60), st.integers(64, 300))
def test_even_batches_hold_every_row_once_and_few_are_enough(lengths: list[int], tokens: int) -> None:
    rows = [(index,) for index in sorted(range(len(lengths)), key=lambda index: -lengths[index])]
    found = even_batches(rows, tokens=tokens, length=lambda row: lengths[row[0]])
    assert sorted(row for batch in found for row in batch) == sorted(rows)
    assert all(sum(lengths[index] for (index,) in batch) <= tokens for batch in found)
    assert len(found) <= len(micro_batches(rows, size=None, tokens=tokens, length=lambda row: lengths[row[0]]))
