"""Whatever a job is called and however often it tries, the names of its children fit."""

import re

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.builders import SETTINGS, make_job, make_profile, make_storage, observed

from trimtab_operator import names
from trimtab_operator.api.v1alpha1 import FineTuneJob
from trimtab_operator.plan.fine_tune_job.config_map import config_text, run_config
from trimtab_operator.plan.fine_tune_job.headless_service import headless_service, main_address
from trimtab_operator.plan.fine_tune_job.trainer_job import trainer_job
from trimtab_operator.state import Manifest

JOB_NAMES = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,50}[a-z0-9])?", fullmatch=True)
ATTEMPTS = st.integers(min_value=1, max_value=9999)
DNS_LABEL = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")


def children(job: FineTuneJob, attempt: int) -> list[Manifest]:
    profile, storage = make_profile().spec, make_storage().spec
    config = run_config(observed(job), attempt, profile=profile, storage=storage, settings=SETTINGS)
    return [
        headless_service(observed(job), attempt),
        trainer_job(observed(job), config, config_text(config), profile=profile, storage=storage, settings=SETTINGS),
    ]


@settings(max_examples=50, deadline=None)
@given(JOB_NAMES, ATTEMPTS)
def test_names_fit(name: str, attempt: int) -> None:
    job = make_job(name=name, distribution={"nodes": 2})
    for child in children(job, attempt):
        metadata = child["metadata"]
        # A pod's host name is the Job's name with an index, and both must be DNS labels.
        assert len(metadata["name"]) <= names.MAX_NAME - len("-511")
        assert DNS_LABEL.match(metadata["name"])
        assert all(len(value) <= 63 for value in metadata["labels"].values())
    host = main_address(name, attempt).partition(".")[0]
    assert len(host) <= names.MAX_NAME


@given(JOB_NAMES, JOB_NAMES, ATTEMPTS, ATTEMPTS)
def test_attempts_do_not_share_a_name(first: str, second: str, one: int, other: int) -> None:
    if (first, one) != (second, other) and f"{first}-a{one}" != f"{second}-a{other}":
        assert names.attempt_job(first, one) != names.attempt_job(second, other)
