"""General data beside the training split: as much as asked for, and the part that measures forgetting stays unseen."""

import pytest

from trimtab_trainer.data.batches import BatchPlan
from trimtab_trainer.data.formats import Example, Text
from trimtab_trainer.data.splits import set_aside
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.practices.replay import replays_per_epoch


@pytest.mark.parametrize(("fraction", "expected"), [(None, 0), (0.5, 90), (0.1, 10), (0.9, 810), (0.001, 1)])
def test_how_many(fraction: float | None, expected: int) -> None:
    assert replays_per_epoch(90, fraction) == expected


def test_each_epoch_has_every_row_of_its_own_and_a_share_of_the_others() -> None:
    plan = BatchPlan(
        rows=[(number,) for number in range(12)],
        lengths=[1] * 12,
        global_batch_size=4,
        seed=1,
        group_by_length=True,
        replay_rows=4,
        replays_per_epoch=8,
    )
    assert plan.steps_per_epoch == 4
    for epoch in range(3):
        seen = [index for step in range(4) for (index,) in plan.global_batch(4 * epoch + step)]
        assert sorted(seen) == [*range(8), *(number for number in range(8, 12) for _ in range(2))]


def texts(count: int) -> list[Example]:
    return [Example(str(number), Text(f"text {number}")) for number in range(count)]


def test_a_quarter_is_only_measured_and_the_same_words_are_never_in_both() -> None:
    examples = texts(400)
    replayed, measured = set_aside([*examples, *examples[:50]])
    assert len(measured) == pytest.approx(112, abs=25)
    assert not {one.fingerprint for one in replayed} & {one.fingerprint for one in measured}


def test_too_little_to_set_aside() -> None:
    with pytest.raises(TrainerError, match="needs more than 1 general examples"):
        set_aside(texts(1))
