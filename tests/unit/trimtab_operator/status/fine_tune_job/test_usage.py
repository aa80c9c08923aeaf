"""What a job has used."""

import pytest
from tests.support.builders import make_profile

from trimtab_operator.api.v1alpha1.fine_tune_job import Attempt
from trimtab_operator.status.fine_tune_job.usage import compute_usage
from trimtab_trainer.contract.spec import Distribution

DONE = Attempt(
    number=1, job_name="a", start_time="2026-11-21T12:00:00Z", end_time="2026-11-21T12:30:00Z", active_seconds=1800
)
OPEN = Attempt(number=2, job_name="b", start_time="2026-11-21T13:00:00Z")
AS_OF = "2026-11-21T13:30:00Z"
PROFILE = make_profile(pricePerHour=6, watts=100, carbonIntensity=350).spec


def test_over_all_attempts() -> None:
    usage = compute_usage([DONE, OPEN], profile=PROFILE, distribution=Distribution(), as_of=AS_OF)
    assert (usage.cpu_seconds, usage.accelerator_seconds, usage.cost) == (7200, 0, 6)
    assert (usage.energy_watt_hours, usage.co2_grams) == (100, 35)


def test_nodes_and_accelerators() -> None:
    distribution = Distribution(nodes=2, accelerators_per_node=4)
    usage = compute_usage([DONE], profile=PROFILE, distribution=distribution, as_of=None)
    assert (usage.accelerator_seconds, usage.cost, usage.energy_watt_hours) == (1800 * 8, 6, 100)


def test_what_the_trainer_measured_outranks_the_estimate() -> None:
    measured = DONE.model_copy(update={"energy_watt_hours": 7.0})
    assert compute_usage([measured], profile=PROFILE, distribution=Distribution(), as_of=None).energy_watt_hours == 7


@pytest.mark.parametrize(
    ("seconds", "percent"),
    [
        pytest.param(0, None, id="nothing reported"),
        pytest.param(900, 50.0, id="half"),
        pytest.param(9999, 100.0, id="clocks differ"),
    ],
)
def test_goodput(seconds: float, percent: float | None) -> None:
    attempt = DONE.model_copy(update={"training_seconds": seconds})
    assert compute_usage([attempt], profile=PROFILE, distribution=Distribution(), as_of=None).goodput_percent == percent


def test_without_prices_there_is_no_cost() -> None:
    usage = compute_usage([DONE], profile=make_profile().spec, distribution=Distribution(), as_of=None)
    assert (usage.cost, usage.energy_watt_hours, usage.co2_grams) == (None, None, None)


def test_the_clock_does_not_count() -> None:
    assert compute_usage([OPEN], profile=PROFILE, distribution=Distribution(), as_of=None).cpu_seconds == 0
