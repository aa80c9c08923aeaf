"""Who answers: exact shares, sticky users."""

from collections import Counter

import pytest

from trimtab_trainer.server.routing import Routing, Share


def routing(**weights: int) -> Routing:
    return Routing("tone", [Share(name, int(name[1:]), weight) for name, weight in weights.items()])


@pytest.mark.parametrize(
    ("weights", "shares"),
    [
        pytest.param({"v1": 100}, {"v1": 1000}, id="one version"),
        pytest.param({"v1": 90, "v2": 10}, {"v1": 900, "v2": 100}, id="canary"),
        pytest.param({"v2": 10, "v1": 90}, {"v1": 900, "v2": 100}, id="order does not matter"),
        pytest.param({"v1": 0, "v2": 100}, {"v2": 1000}, id="weight 0 gets nothing"),
        pytest.param({"v1": 30, "v2": 10}, {"v1": 750, "v2": 250}, id="weights that do not add up to 100 are shares"),
        pytest.param({"v1": 0}, {None: 1000}, id="nobody"),
    ],
)
def test_shares_are_exact(weights: dict[str, int], shares: dict[str | None, int]) -> None:
    assert Counter(routing(**weights).pick(point / 1000) for point in range(1000)) == shares


def test_users_spread_by_weight_and_stay_while_a_canary_grows() -> None:
    users = [f"user-{number}" for number in range(10_000)]
    steps = [routing(v1=100 - weight, v2=weight) for weight in (10, 50, 100)]
    on_canary = [{user for user in users if step.pick(step.point_of(user)) == "v2"} for step in steps]
    assert on_canary[0] < on_canary[1] < on_canary[2] == set(users)
    assert len(on_canary[0]) == pytest.approx(1000, abs=100)
    assert len(on_canary[1]) == pytest.approx(5000, abs=200)


def test_another_model_spreads_its_users_differently() -> None:
    one, other = Routing("tone", []), Routing("mood", [])
    assert one.point_of("anna") == Routing("tone", []).point_of("anna") != other.point_of("anna")
