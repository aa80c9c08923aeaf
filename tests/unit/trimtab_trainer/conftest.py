"""The trainer's fixtures."""

from tests.support.trainer_fixtures import (
    admin,
    credentials,
    fast_retries,
    faults,
    faulty_store,
    job,
    job_files,
    moto_endpoint,
    proxy,
    pytest_collection_finish,
    s3_endpoint,
    small_parts,
    store,
)

__all__ = [
    "admin",
    "credentials",
    "fast_retries",
    "faults",
    "faulty_store",
    "job",
    "job_files",
    "moto_endpoint",
    "proxy",
    "pytest_collection_finish",
    "s3_endpoint",
    "small_parts",
    "store",
]
