"""The commit protocol against a real S3 server, with real kills."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tests.support.checkpoint_victim import state_at, victim_config
from tests.support.object_store import ACCESS_KEY, BUCKET, make_run_config, make_store, write_credentials
from tests.support.versitygw import find_versitygw, versitygw

from trimtab_trainer.checkpoint.reader import load_latest
from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.store.errors import ObjectExistsError
from trimtab_trainer.store.object_store import ObjectStore
from trimtab_trainer.store.probe import probe_store
from trimtab_trainer.store.transfer import PART_BYTES

pytestmark = pytest.mark.integration
ROUNDS = 5


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    binary = find_versitygw()
    if binary is None:
        pytest.fail("versitygw is missing: `make up` builds it, or set TRIMTAB_VERSITYGW")
    with versitygw(tmp_path_factory.mktemp("s3") / "data", binary) as url:
        yield url


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    return write_credentials(tmp_path / "credentials")


@pytest.fixture
def store(endpoint: str, credentials: Path) -> Iterator[ObjectStore]:
    with ObjectStore.open(make_store(endpoint), credentials=credentials) as opened:
        yield opened


def test_the_store_keeps_everything_that_the_protocol_wants(store: ObjectStore) -> None:
    config = make_run_config(make_store("http://unused"))
    result = probe_store(store, config)
    assert result.model_copy(update={"checked_at": ""}).to_json() == {
        "conditionalWrites": True,
        "readAfterWrite": True,
        "listAfterWrite": True,
        "multipart": True,
        "checkedAt": "",
        "message": "",
    }
    assert not list(store.list("runs/team/tone/uid-1/probe"))


@pytest.mark.parametrize(
    "size", [0, 1, PART_BYTES, 2 * PART_BYTES + 77], ids=["empty", "a byte", "one part", "three parts"]
)
def test_objects_of_every_size_are_written_once(store: ObjectStore, tmp_path: Path, size: int) -> None:
    data = random.Random(size).randbytes(size)
    (tmp_path / "source").write_bytes(data)
    sent = store.upload_file(tmp_path / "source", f"sizes/{size}", if_absent=True, metadata={"owner": "test"})
    assert store.upload_file(tmp_path / "source", f"sizes/{size}", if_absent=True) == sent
    assert store.download_file(f"sizes/{size}", tmp_path / "target") == sent
    assert (tmp_path / "target").read_bytes() == data
    info = store.head(f"sizes/{size}")
    assert info is not None
    assert (info.size, dict(info.metadata)) == (size, {"owner": "test"})
    with pytest.raises(ObjectExistsError):
        store.put(f"sizes/{size}", data + b"!", if_absent=True)


@pytest.mark.parametrize(
    ("access_key", "secret_key", "bucket", "reason"),
    [
        pytest.param("nobody", "testing-secret", BUCKET, TrainerReason.STORAGE_ACCESS_DENIED, id="unknown access key"),
        pytest.param(ACCESS_KEY, "wrong", BUCKET, TrainerReason.STORAGE_ACCESS_DENIED, id="wrong secret key"),
        pytest.param(ACCESS_KEY, "testing-secret", "no-such", TrainerReason.STORAGE_NOT_FOUND, id="no such bucket"),
    ],
)
def test_what_is_wrong_is_said_at_once(
    endpoint: str, tmp_path: Path, access_key: str, secret_key: str, bucket: str, reason: TrainerReason
) -> None:
    credentials = write_credentials(tmp_path / "wrong", access_key=access_key, secret_key=secret_key)
    with pytest.raises(TrainerError) as caught:
        ObjectStore.open(make_store(endpoint, bucket=bucket), credentials=credentials)
    assert caught.value.reason == reason


def test_no_kill_loses_an_acknowledged_checkpoint(endpoint: str, store: ObjectStore, credentials: Path) -> None:
    """SIGKILL at a random moment, again and again: whatever was acknowledged is there, and it is what was written."""
    chance = random.Random(os.environ.get("TRIMTAB_SEED", "trimtab"))
    for attempt in range(1, ROUNDS + 1):
        command = [sys.executable, "-m", "tests.support.checkpoint_victim", endpoint, str(credentials), str(attempt)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as victim:
            assert victim.stdout is not None
            resumed = victim.stdout.readline().split()
            first = victim.stdout.readline().split()
            assert (resumed[0], first[0]) == ("resumed", "committed")
            time.sleep(chance.uniform(0.0, 1.5))
            victim.kill()
            acknowledged = [int(line.split()[1]) for line in victim.stdout if line.endswith("\n")] or [int(first[1])]
        loaded, rejected = load_latest(store, victim_config(endpoint, attempt + 1))
        assert rejected == []
        assert loaded is not None
        assert loaded.step >= acknowledged[-1]
        assert loaded.document == {"step": loaded.step}
        for name, tensor in state_at(loaded.step).items():
            assert torch.equal(loaded.tensors[name], tensor)
