"""Fixtures of the trainer's tests: a store (moto's S3 server, alone or behind a proxy that breaks requests), and files of tiny jobs."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.fault_proxy import FaultProxy, fault_proxy
from tests.support.object_store import (
    BUCKET,
    SMALL_PART_BYTES,
    admin_client,
    make_store,
    moto_server,
    write_credentials,
)

from trimtab_trainer.imports import many_imports
from trimtab_trainer.quota import THREAD_VARIABLES
from trimtab_trainer.store.object_store import ObjectStore

if TYPE_CHECKING:
    from tests.support.memory_storage import MemoryStorage
    from tests.support.training import Job

# Before torch is imported: of matrices this small, several threads only wait for each other, and for other tests.
os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
# Each worker of the tests imports everything, as a trainer does.
_imports = ExitStack()
_imports.enter_context(many_imports())


def pytest_collection_finish() -> None:
    """Every test module is imported."""
    _imports.close()


@pytest.fixture
def fast_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry as often as in production, without the pauses between."""
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.0)
    monkeypatch.setattr("tenacity.wait_random_exponential.__call__", lambda *_: 0.0)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Multipart uploads and ranged reads of kilobytes instead of megabytes."""
    monkeypatch.setattr("trimtab_trainer.store.object_store.PART_BYTES", SMALL_PART_BYTES)
    monkeypatch.setattr("trimtab_trainer.store.transfer.PART_BYTES", SMALL_PART_BYTES)
    monkeypatch.setattr("moto.s3.models.S3_UPLOAD_PART_MIN_SIZE", 1)


@pytest.fixture(scope="session")
def moto_endpoint() -> Iterator[str]:
    with moto_server() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def admin(moto_endpoint: str) -> Iterator[Any]:
    """A plain client of the server, to look at it from outside."""
    client = admin_client(moto_endpoint)
    yield client
    client.close()


@pytest.fixture
def s3_endpoint(moto_endpoint: str, admin: Any) -> Iterator[str]:
    """A server with one empty bucket."""
    admin.create_bucket(Bucket=BUCKET)
    yield moto_endpoint
    for bucket in admin.list_buckets()["Buckets"]:
        for entry in admin.list_objects_v2(Bucket=bucket["Name"]).get("Contents", ()):
            admin.delete_object(Bucket=bucket["Name"], Key=entry["Key"])
        admin.delete_bucket(Bucket=bucket["Name"])


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    return write_credentials(tmp_path / "credentials")


@pytest.fixture
def store(s3_endpoint: str, credentials: Path) -> Iterator[ObjectStore]:
    """An open store on an empty bucket."""
    with ObjectStore.open(make_store(s3_endpoint), credentials=credentials) as opened:
        yield opened


@pytest.fixture
def proxy(s3_endpoint: str) -> Iterator[tuple[FaultProxy, str]]:
    """A proxy in front of the server, and its URL."""
    with fault_proxy(s3_endpoint) as running:
        yield running


@pytest.fixture
def faulty_store(proxy: tuple[FaultProxy, str], credentials: Path) -> Iterator[ObjectStore]:
    """An open store behind the proxy."""
    with ObjectStore.open(make_store(proxy[1]), credentials=credentials) as opened:
        yield opened


@pytest.fixture
def faults(proxy: tuple[FaultProxy, str]) -> FaultProxy:
    """The proxy's faults, to add to."""
    return proxy[0]


@pytest.fixture(scope="session")
def job_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny models and data that `tests.support.training.make_job` names; nobody changes them."""
    from tests.support.training import write_job_files  # noqa: PLC0415 - torch, which storage tests can do without

    return write_job_files(tmp_path_factory.mktemp("job"))


@pytest.fixture
def job(s3_endpoint: str, credentials: Path, job_files: Path, monkeypatch: pytest.MonkeyPatch) -> "Job":
    """Makes jobs whose model and data lie in the store's bucket; whoever opens a store finds the credentials."""
    from tests.support.training import job_on  # noqa: PLC0415 - torch, which storage tests can do without

    with closing(admin_client(s3_endpoint)) as client:
        for file in job_files.rglob("*"):
            if file.is_file() and ("llama/" in str(file) or "data/" in str(file)):
                client.upload_file(str(file), BUCKET, f"in/{file.relative_to(job_files)}")
    opened = ObjectStore.open
    monkeypatch.setattr(ObjectStore, "open", lambda store: opened(store, credentials=credentials))
    return partial(job_on, make_store(s3_endpoint))


@pytest.fixture
def storage(job_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "MemoryStorage":
    """Store, models and data of whole jobs in this process."""
    from tests.support.memory_storage import MemoryStorage as Storage  # noqa: PLC0415 - torch, which storage tests can do without

    for name in ("models", "data"):
        (tmp_path / name).symlink_to(job_files / name)
    storage = Storage(tmp_path)
    storage.install(monkeypatch)
    return storage


@pytest.fixture(scope="session")
def media_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny models of images and sounds, and their data; nobody changes them."""
    from tests.support.media_models import write_media_files  # noqa: PLC0415 - torch, which storage tests can do without

    return write_media_files(tmp_path_factory.mktemp("media"))


@pytest.fixture
def media_storage(
    job_files: Path, media_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> "MemoryStorage":
    """As `storage`, with images and sounds."""
    from tests.support.memory_storage import MemoryStorage as Storage  # noqa: PLC0415 - torch, which storage tests can do without

    for name in ("models", "data"):
        (tmp_path / name).mkdir()
        for source in (*(job_files / name).iterdir(), *(media_files / name).iterdir()):
            (tmp_path / name / source.name).symlink_to(source)
    storage = Storage(tmp_path)
    storage.install(monkeypatch)
    return storage
