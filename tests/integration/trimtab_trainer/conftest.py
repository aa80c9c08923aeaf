"""The trainer's fixtures."""

from tests.support.trainer_fixtures import (
    admin,
    credentials,
    fast_retries,
    faults,
    faulty_store,
    job,
    job_files,
    media_files,
    media_storage,
    moto_endpoint,
    proxy,
    pytest_collection_finish,
    s3_endpoint,
    small_parts,
    storage,
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
    "media_files",
    "media_storage",
    "moto_endpoint",
    "proxy",
    "pytest_collection_finish",
    "s3_endpoint",
    "small_parts",
    "storage",
    "store",
]
