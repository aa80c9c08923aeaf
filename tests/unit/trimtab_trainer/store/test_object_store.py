import hashlib
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.fault_proxy import Fault, FaultProxy, Request
from tests.support.object_store import SMALL_PART_BYTES, make_store, write_credentials

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.store.client import make_client
from trimtab_trainer.store.errors import ObjectExistsError, ObjectNotFoundError
from trimtab_trainer.store.object_store import ObjectStore

SMALL = b"small object"
LARGE = random.Random(0).randbytes(2 * SMALL_PART_BYTES + 12345)


pytestmark = pytest.mark.usefixtures("fast_retries", "small_parts")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    "data", [b"", SMALL, LARGE[:SMALL_PART_BYTES], LARGE], ids=["empty", "small", "one part", "three parts"]
)
def test_what_is_uploaded_comes_back(store: ObjectStore, tmp_path: Path, data: bytes) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(data)
    assert store.upload_file(source, "runs/a") == sha256(data)
    assert store.download_file("runs/a", target) == sha256(data)
    assert target.read_bytes() == data
    assert store.read_sha256("runs/a") == sha256(data)


def test_pieces_of_any_size_become_one_object(store: ObjectStore) -> None:
    view = memoryview(LARGE)
    pieces = [
        view[:10],
        view[10 : SMALL_PART_BYTES + 5],
        view[SMALL_PART_BYTES + 5 : SMALL_PART_BYTES + 6],
        view[SMALL_PART_BYTES + 6 :],
    ]
    assert store.upload(pieces, "runs/a") == sha256(LARGE)
    assert store.read_sha256("runs/a") == sha256(LARGE)


def test_listing_knows_sizes_and_prefixes(store: ObjectStore) -> None:
    for key in ("runs/b", "runs/a", "elsewhere/c"):
        store.put(key, SMALL)
    assert [(entry.key, entry.size) for entry in store.list("runs/")] == [("runs/a", 12), ("runs/b", 12)]


def test_a_missing_object(store: ObjectStore) -> None:
    store.delete("runs/none")
    assert store.head("runs/none") is None
    with pytest.raises(ObjectNotFoundError, match="s3://trimtab/runs/none does not exist"):
        store.get("runs/none")


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "multipart"])
def test_if_absent_accepts_the_same_bytes_and_refuses_others(store: ObjectStore, data: bytes) -> None:
    store.put("runs/a", data, if_absent=True)
    store.put("runs/a", data, if_absent=True)
    with pytest.raises(ObjectExistsError, match="holds other bytes"):
        store.put("runs/a", data[::-1], if_absent=True)
    assert store.get("runs/a") == data


def is_put(request: Request) -> bool:
    return request.method == "PUT"


def is_complete(request: Request) -> bool:
    return request.method == "POST" and "uploadId" in request.query


def is_get(request: Request) -> bool:
    return request.method == "GET" and request.key == "runs/a"


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        pytest.param(SMALL, Fault("loseReply", is_put, times=1), id="put applied, reply lost"),
        pytest.param(LARGE, Fault("loseReply", is_put, times=2), id="two parts applied, replies lost"),
        pytest.param(LARGE, Fault("loseReply", is_complete, times=1), id="complete applied, reply lost"),
        pytest.param(SMALL, Fault("error", is_put, times=3, status=503, code="SlowDown"), id="throttled"),
        pytest.param(LARGE, Fault("error", is_complete, times=2, status=500), id="complete fails twice"),
        pytest.param(
            LARGE, Fault("error", is_complete, times=1, status=409, code="ConditionalRequestConflict"), id="conflict"
        ),
        pytest.param(
            SMALL, Fault("error", is_put, times=1, status=409, code="ConditionalRequestConflict"), id="put conflict"
        ),
        pytest.param(SMALL, Fault("truncate", is_get, times=2), id="body cut short twice"),
        pytest.param(LARGE, Fault("truncate", is_get, times=2), id="ranges cut short twice"),
        pytest.param(LARGE, Fault("loseReply", is_get, times=2), id="connection closed while reading"),
    ],
)
@pytest.mark.parametrize("if_absent", [False, True], ids=["overwrite", "if absent"])
def test_passing_faults_heal(
    faulty_store: ObjectStore, faults: FaultProxy, data: bytes, *, fault: Fault, if_absent: bool
) -> None:
    fault.hits = 0
    faults.add(fault)
    faulty_store.put("runs/a", data, if_absent=if_absent)
    assert faulty_store.read_sha256("runs/a") == sha256(data)
    assert fault.hits == fault.times


@pytest.mark.parametrize(
    "unsupported",
    [
        lambda request: "if-none-match" in request.headers,
    ],
    ids=["NotImplemented"],
)
@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "multipart"])
def test_a_store_without_conditional_writes_works(
    faulty_store: ObjectStore, faults: FaultProxy, data: bytes, unsupported: Callable[[Request], bool]
) -> None:
    faults.add(Fault("error", unsupported, status=501, code="NotImplemented"))
    faulty_store.put("runs/a", data, if_absent=True)
    with pytest.raises(ObjectExistsError):
        faulty_store.put("runs/a", data[::-1], if_absent=True)
    assert faulty_store.get("runs/a") == data


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        pytest.param(
            Fault("error", is_put, status=403, code="AccessDenied"), TrainerReason.STORAGE_ACCESS_DENIED, id="denied"
        ),
        pytest.param(
            Fault("error", is_complete, status=404, code="NoSuchUpload"),
            TrainerReason.STORAGE_UNAVAILABLE,
            id="the store has dropped the upload",
        ),
    ],
)
def test_a_large_file_that_cannot_be_written_says_why(
    faulty_store: ObjectStore, faults: FaultProxy, tmp_path: Path, fault: Fault, reason: TrainerReason
) -> None:
    source = tmp_path / "source"
    source.write_bytes(3 * LARGE)
    faults.add(fault)
    with pytest.raises(TrainerError) as caught:
        faulty_store.upload_file(source, "runs/a", if_absent=True)
    assert caught.value.reason is reason


@pytest.mark.parametrize(
    ("fault", "reason", "says"),
    [
        pytest.param(
            Fault("error", status=403, code="InvalidAccessKeyId"),
            TrainerReason.STORAGE_ACCESS_DENIED,
            "keys in the profile's Secret",
            id="wrong key",
        ),
        pytest.param(
            Fault("error", status=403, code="AccessDenied"),
            TrainerReason.STORAGE_ACCESS_DENIED,
            "access denied",
            id="denied",
        ),
        pytest.param(
            Fault("error", status=404, code="NoSuchBucket"),
            TrainerReason.STORAGE_NOT_FOUND,
            "bucket does not exist",
            id="no bucket",
        ),
        pytest.param(
            Fault("error", status=400, code="AuthorizationHeaderMalformed"),
            TrainerReason.STORAGE_NOT_FOUND,
            "spec.region",
            id="region",
        ),
        pytest.param(
            Fault("error", status=503, code="SlowDown"),
            TrainerReason.STORAGE_UNAVAILABLE,
            "after several tries",
            id="down",
        ),
        pytest.param(
            Fault("error", status=403, code="RequestTimeTooSkewed"),
            TrainerReason.STORAGE_UNAVAILABLE,
            "TooSkewed",
            id="clock",
        ),
    ],
)
def test_opening_says_what_is_wrong(
    faults: FaultProxy, proxy: tuple[FaultProxy, str], credentials: Path, fault: Fault, reason: TrainerReason, says: str
) -> None:
    fault.hits = 0
    faults.add(fault)
    with pytest.raises(TrainerError, match=says) as caught:
        ObjectStore.open(make_store(proxy[1]), credentials=credentials)
    assert caught.value.reason == reason
    assert "StorageProfile 'default'" in str(caught.value)


def test_wrong_credentials_are_not_tried_again(
    faults: FaultProxy, proxy: tuple[FaultProxy, str], credentials: Path
) -> None:
    fault = faults.add(Fault("error", status=403, code="SignatureDoesNotMatch"))
    with pytest.raises(TrainerError):
        ObjectStore.open(make_store(proxy[1]), credentials=credentials)
    assert fault.hits == 1


@pytest.mark.parametrize(
    ("endpoint", "bucket", "reason"),
    [
        pytest.param("http://127.0.0.1:9", "trimtab", TrainerReason.STORAGE_UNAVAILABLE, id="nobody listens"),
        pytest.param("not a url", "trimtab", TrainerReason.CONFIG_INVALID, id="malformed"),
        pytest.param("", "nothing-here", TrainerReason.STORAGE_NOT_FOUND, id="no such bucket"),
    ],
)
def test_wrong_place(s3_endpoint: str, credentials: Path, endpoint: str, bucket: str, reason: TrainerReason) -> None:
    with pytest.raises(TrainerError) as caught:
        ObjectStore.open(make_store(endpoint or s3_endpoint, bucket=bucket), credentials=credentials)
    assert caught.value.reason == reason


@pytest.mark.parametrize("key", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_a_secret_without_a_key(s3_endpoint: str, credentials: Path, key: str) -> None:
    (credentials / key).resolve().unlink()
    with pytest.raises(TrainerError, match=f"must hold the key '{key}'") as caught:
        ObjectStore.open(make_store(s3_endpoint), credentials=credentials)
    assert caught.value.reason == TrainerReason.STORAGE_SECRET_MISSING


def test_rotated_keys_are_used_at_once(faulty_store: ObjectStore, faults: FaultProxy, credentials: Path) -> None:
    faulty_store.put("runs/a", SMALL)
    write_credentials(credentials, access_key="rotated", secret_key="rotated")
    faulty_store.put("runs/b", SMALL)
    signed_by = [request.headers["authorization"].split("Credential=")[1].split("/")[0] for request in faults.requests]
    assert (signed_by[0], signed_by[-1]) == ("testing-key", "rotated")


@pytest.mark.parametrize("token", [True, False], ids=["token mounted", "no token"])
def test_web_identity_is_exchanged_for_keys(
    proxy: tuple[FaultProxy, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, token: bool
) -> None:
    monkeypatch.setattr("trimtab_trainer.contract.mounts.WEB_IDENTITY_TOKEN_FILE", tmp_path / "token")
    role = "arn:aws:iam::123456789012:role/trainer"
    config = make_store(proxy[1], credentials="webIdentity", web_identity_role_arn=role)
    if not token:
        with pytest.raises(TrainerError, match="no service-account token") as caught:
            ObjectStore.open(config)
        assert caught.value.reason == TrainerReason.STORAGE_SECRET_MISSING
        return
    (tmp_path / "token").write_text("a.projected.token")
    with ObjectStore.open(config) as store:
        store.put("runs/a", SMALL)
    exchanged = [request.body.decode() for request in proxy[0].requests if b"AssumeRoleWithWebIdentity" in request.body]
    assert len(exchanged) == 1
    assert "a.projected.token" in exchanged[0]


def test_a_role_that_may_not_be_assumed(
    proxy: tuple[FaultProxy, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trimtab_trainer.contract.mounts.WEB_IDENTITY_TOKEN_FILE", tmp_path / "token")
    (tmp_path / "token").write_text("a.projected.token")
    config = make_store(proxy[1], credentials="webIdentity", web_identity_role_arn="arn:aws:iam::1:role/other")
    proxy[0].add(Fault("error", lambda request: b"AssumeRole" in request.body, status=403, code="AccessDenied"))
    with pytest.raises(TrainerError, match=r"spec\.credentials") as caught:
        ObjectStore.open(config)
    assert caught.value.reason == TrainerReason.STORAGE_ACCESS_DENIED


def test_certificates_of_the_profile_join_the_systems(credentials: Path) -> None:
    bundle = "-----BEGIN CERTIFICATE-----\nprofile\n-----END CERTIFICATE-----"
    client = make_client(make_store("https://127.0.0.1:9", ca_bundle=bundle), credentials=credentials)
    trusted = Path(client._endpoint.http_session._verify).read_text()
    client.close()
    assert bundle in trusted
    assert trusted.count("BEGIN CERTIFICATE") > 10
