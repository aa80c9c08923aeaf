"""What is taken for divergence, and what follows from it."""

import math
from typing import Any

import pytest

from trimtab_trainer.contract.practices import Divergence
from trimtab_trainer.practices.divergence import what_is_wrong
from trimtab_trainer.state import LoopState

WATCHED = {"spikeFactor": 3.0, "window": 2}


@pytest.mark.parametrize(
    ("settings", "recent", "loss", "norm", "words"),
    [
        pytest.param({}, [], 2.0, 1.0, "", id="all is well"),
        pytest.param({}, [], math.nan, 1.0, "has loss nan", id="NaN loss"),
        pytest.param({}, [], 2.0, math.inf, "gradient norm inf", id="infinite gradient"),
        pytest.param({}, [1.0, 1.0], 99.0, 1.0, "", id="spikes are not watched for"),
        pytest.param(WATCHED, [1.0], 99.0, 1.0, "", id="nothing to compare with yet"),
        pytest.param(WATCHED, [1.0, 2.0], 4.4, 1.0, "", id="below three times 1.5"),
        pytest.param(WATCHED, [1.0, 2.0], 4.6, 1.0, "more than 3 times the recent mean of 1.5", id="a spike"),
    ],
)
def test_what_is_wrong_with_a_step(
    settings: dict[str, Any], recent: list[float], loss: float, norm: float, words: str
) -> None:
    found = what_is_wrong(LoopState(recent_losses=recent), Divergence.model_validate(settings), loss=loss, norm=norm)
    assert (words in found) if words else (found == "")
