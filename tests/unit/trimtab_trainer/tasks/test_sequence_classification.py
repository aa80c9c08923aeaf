"""What is particular to classifying texts."""

import pytest

from trimtab_trainer.errors import TrainerError
from trimtab_trainer.tasks.sequence_classification import choose_labels


@pytest.mark.parametrize(
    ("stated", "found", "expected"),
    [
        pytest.param([], ["b", "a", "b"], ("a", "b"), id="sorted labels of the training split"),
        pytest.param(["z", "a"], ["a"], ("z", "a"), id="stated labels keep their order"),
        pytest.param([], ["a", "a"], None, id="one label is no choice"),
        pytest.param(["a", "a"], [], None, id="a label twice"),
    ],
)
def test_labels(stated: list[str], found: list[str], expected: tuple[str, ...] | None) -> None:
    if expected is None:
        with pytest.raises(TrainerError, match="at least two different labels"):
            choose_labels(stated, set(found))
    else:
        assert choose_labels(stated, set(found)) == expected
