"""Numbers of model versions."""

import pytest
from tests.support.builders import make_job, make_version

from trimtab_operator.plan.fine_tune_job.version import next_version, reserved_version


@pytest.mark.parametrize(
    ("versions", "reserved", "taken", "number"),
    [
        pytest.param([], [], [], 1, id="first"),
        pytest.param([1, 2], [], [], 3, id="after those that exist"),
        pytest.param([1, 7], [], [], 8, id="gaps are not filled"),
        pytest.param([1], ["support-tone-v2"], [], 3, id="after a reservation"),
        pytest.param([1], ["support-tone-v2"], [3, 4], 5, id="skipping what is taken"),
        pytest.param([], [], [1, 3], 2, id="between what is taken"),
        pytest.param([1], ["other-v9"], [], 2, id="other models do not count"),
    ],
)
def test_next_version(versions: list[int], reserved: list[str], taken: list[int], number: int) -> None:
    jobs = [make_job(status={"modelVersion": name}) for name in reserved]
    assert next_version("support-tone", [make_version(version) for version in versions], jobs, taken) == number


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("support-tone-v7", 7),
        ("", None),
        ("support-tone-v", None),
        ("support-tone-vx", None),
        ("support-tone-new-v7", None),
    ],
)
def test_reserved_version(name: str, number: int | None) -> None:
    assert reserved_version(make_job(status={"modelVersion": name})) == number
