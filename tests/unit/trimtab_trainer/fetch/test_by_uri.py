import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from tests.support.fault_proxy import Fault, FaultProxy
from tests.support.hub import COMMIT, Hub, Repository, running_hub

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.manifests import listing_digest, sha256_hex
from trimtab_trainer.contract.spec import DataSource, ModelSource
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.fetch.by_uri import FetchedDataset, FetchedModel, fetch_dataset, fetch_model
from trimtab_trainer.store.object_store import ObjectStore

pytestmark = pytest.mark.usefixtures("fast_retries", "small_parts")

WEIGHTS = random.Random(1).randbytes(200_000)
MODEL = {"config.json": b"{}", "model.safetensors": WEIGHTS, "tokenizer.json": b"{}", "merges.txt": b"a b"}
UNWANTED = {
    "pytorch_model.bin": b"pickle",
    "README.md": b"words",
    "modeling_custom.py": b"code",
    "onnx/config.json": b"{}",
    "training_args.pt": b"pickle",
}
ROWS = {"a.jsonl": b'{"text": "a"}\n', "b.csv": b"text\nb\n", "deep/c.parquet": b"PAR1"}
NO_STORE = cast("ObjectStore", None)
"""For sources that are no store."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    hub = Hub()
    with running_hub(hub) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        yield hub


@pytest.fixture
def volumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("trimtab_trainer.contract.mounts.VOLUMES_DIRECTORY", tmp_path / "volumes")
    (tmp_path / "volumes/claim").mkdir(parents=True)
    return tmp_path / "volumes/claim"


def place(request: pytest.FixtureRequest, source: str, files: dict[str, bytes]) -> str:
    """Put files at a source; the URI of their folder."""
    if source == "s3":
        request.getfixturevalue("s3_endpoint")
        admin = request.getfixturevalue("admin")
        admin.create_bucket(Bucket="elsewhere")
        for name, data in files.items():
            admin.put_object(Bucket="elsewhere", Key=f"things/base/{name}", Body=data)
        return "s3://elsewhere/things/base"
    if source == "pvc":
        root = request.getfixturevalue("volumes") / "things/base"
        for name, data in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)
        return "pvc://claim/things/base"
    prefix = "" if source == "hf-model" else "datasets/"
    request.getfixturevalue("hub").repositories[f"{prefix}things/base"] = Repository(files)
    return "hf://things/base"


def model(
    uri: str, store: ObjectStore, directory: Path, *, digest: str = "", revision: str = "", pin: str = ""
) -> FetchedModel:
    return fetch_model(
        ModelSource(uri=uri, digest=digest, revision=revision), store=store, directory=directory, pin=pin
    )


def dataset(uri: str, store: ObjectStore, directory: Path, *, pin: str = "") -> FetchedDataset:
    return fetch_dataset(DataSource(uri=uri), store=store, directory=directory, pin=pin)


def store_for(request: pytest.FixtureRequest, source: str) -> ObjectStore:
    return cast("ObjectStore", request.getfixturevalue("store")) if source == "s3" else NO_STORE


def read(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def digest_of(files: dict[str, bytes]) -> str:
    return listing_digest({name: (len(data), sha256_hex(data)) for name, data in files.items()})


@pytest.mark.parametrize("source", ["s3", "pvc", "hf-model"])
def test_a_model_arrives_without_anything_that_could_run(
    request: pytest.FixtureRequest, tmp_path: Path, source: str
) -> None:
    uri = place(request, source, MODEL | UNWANTED)
    fetched = model(uri, store_for(request, source), tmp_path / "scratch")
    assert read(fetched.path) == MODEL
    assert fetched.digest == digest_of(MODEL)
    assert fetched.revision == (COMMIT if source == "hf-model" else "")
    assert (
        model(uri, store_for(request, source), tmp_path / "other", digest=fetched.digest, pin=fetched.digest).digest
        == fetched.digest
    )


@pytest.mark.parametrize("source", ["s3", "pvc", "hf-dataset"])
def test_a_folder_of_data_arrives_in_the_order_of_names(
    request: pytest.FixtureRequest, tmp_path: Path, source: str
) -> None:
    uri = place(request, source, ROWS | {"README.md": b"words", "_SUCCESS": b""})
    fetched = dataset(uri, store_for(request, source), tmp_path / "scratch")
    assert [path.read_bytes() for path in fetched.files] == list(ROWS.values())
    assert fetched.digest == digest_of(ROWS)
    assert dataset(uri, store_for(request, source), tmp_path / "other", pin=fetched.digest).digest == fetched.digest


@pytest.mark.parametrize("source", ["s3", "pvc", "hf-dataset"])
def test_one_file_of_data(request: pytest.FixtureRequest, tmp_path: Path, source: str) -> None:
    uri = place(request, source, ROWS)
    fetched = dataset(f"{uri}/a.jsonl", store_for(request, source), tmp_path / "scratch")
    assert [path.read_bytes() for path in fetched.files] == [ROWS["a.jsonl"]]
    assert fetched.files[0].suffix == ".jsonl"


@pytest.mark.parametrize("source", ["s3", "pvc"])
def test_a_pattern_of_data_files(request: pytest.FixtureRequest, tmp_path: Path, source: str) -> None:
    uri = place(request, source, {"part-1.jsonl": b"1", "part-2.jsonl": b"2", "other.jsonl": b"3"})
    fetched = dataset(f"{uri}/part-*.jsonl", store_for(request, source), tmp_path / "scratch")
    assert [path.name for path in fetched.files] == ["part-1.jsonl", "part-2.jsonl"]


def test_sources_share_a_directory(request: pytest.FixtureRequest, store: ObjectStore, tmp_path: Path) -> None:
    first = dataset(place(request, "s3", {"rows.jsonl": b"first"}) + "/rows.jsonl", store, tmp_path)
    second = dataset(place(request, "pvc", {"rows.jsonl": b"second"}) + "/rows.jsonl", store, tmp_path)
    assert (first.files[0].read_bytes(), second.files[0].read_bytes()) == (b"first", b"second")


@pytest.mark.parametrize(
    ("files", "says"),
    [
        pytest.param(
            {"config.json": b"{}", "pytorch_model.bin": b""},
            "pickles .pytorch_model.bin.",
            id="pickle",
        ),
        pytest.param({"config.json": b"{}"}, "no .\\.safetensors weights", id="no weights"),
        pytest.param({"model.safetensors": b""}, "no config.json", id="no config"),
        pytest.param(
            {"adapter_config.json": b"{}", "adapter_model.safetensors": b""},
            "modelversion://",
            id="adapter",
        ),
        pytest.param(
            {
                "config.json": b"{}",
                "model-1.safetensors": b"",
                "model.safetensors.index.json": json.dumps(
                    {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
                ).encode(),
            },
            "model-2.safetensors",
            id="missing shard",
        ),
        pytest.param(
            {"config.json": b"{}", "model.safetensors": b"", "model.safetensors.index.json": b"[]"},
            "malformed",
            id="malformed index",
        ),
    ],
)
def test_unusable_models(request: pytest.FixtureRequest, tmp_path: Path, files: dict[str, bytes], says: str) -> None:
    with pytest.raises(TrainerError, match=says) as caught:
        model(place(request, "pvc", files), NO_STORE, tmp_path / "scratch")
    assert caught.value.reason == TrainerReason.MODEL_INVALID


@pytest.mark.parametrize(
    ("source", "uri", "says"),
    [
        pytest.param("s3", "s3://elsewhere/things/bse", "s3://elsewhere/things/base/", id="s3: a near name is offered"),
        pytest.param("s3", "s3://elsewhere/nothing/like/it", "there is nothing at", id="s3: nothing near"),
        pytest.param("s3", "s3://elsewhere/things/base/config.json", "it is a file", id="s3: a file"),
        pytest.param("pvc", "pvc://claim/things/bas", "pvc://claim/things/base/", id="pvc: a near name is offered"),
        pytest.param("pvc", "pvc://other/things/base", "'other' is not mounted", id="pvc: claim"),
        pytest.param("pvc", "pvc://claim/things/base/config.json", "it is a file", id="pvc: a file"),
        pytest.param("hf-model", "hf://things/bass", "does not exist at http", id="hub: repository"),
    ],
)
def test_models_that_are_not_there(
    request: pytest.FixtureRequest, tmp_path: Path, source: str, uri: str, says: str
) -> None:
    place(request, source, MODEL)
    with pytest.raises(TrainerError, match=says) as caught:
        model(uri, store_for(request, source), tmp_path / "scratch")
    expected = TrainerReason.MODEL_INVALID if "file" in says else TrainerReason.MODEL_NOT_FOUND
    assert caught.value.reason == expected
    assert "model.uri" in str(caught.value)


@pytest.mark.parametrize(
    ("source", "path", "says"),
    [
        pytest.param("s3", "/a.jsnl", "s3://elsewhere/things/base/a.jsonl", id="s3: a near name is offered"),
        pytest.param("s3", "/x*.jsonl", "there is nothing", id="s3: pattern"),
        pytest.param("pvc", "/a.jsnl", "pvc://claim/things/base/a.jsonl", id="pvc: a near name is offered"),
        pytest.param("hf-dataset", "/a.jsnl", "There is: a.jsonl", id="hub: a near name is offered"),
    ],
)
def test_data_that_is_not_there(
    request: pytest.FixtureRequest, tmp_path: Path, source: str, path: str, says: str
) -> None:
    uri = place(request, source, ROWS)
    with pytest.raises(TrainerError, match=says) as caught:
        dataset(uri + path, store_for(request, source), tmp_path / "scratch")
    assert caught.value.reason == TrainerReason.DATASET_NOT_FOUND


@pytest.mark.parametrize("source", ["s3", "pvc", "hf-dataset"])
def test_a_folder_without_data(request: pytest.FixtureRequest, tmp_path: Path, source: str) -> None:
    with pytest.raises(TrainerError) as caught:
        dataset(place(request, source, {"rows.xlsx": b""}), store_for(request, source), tmp_path / "scratch")
    assert caught.value.reason == TrainerReason.DATASET_NOT_FOUND


@pytest.mark.parametrize("source", ["s3", "pvc", "hf-dataset"])
def test_other_bytes_than_pinned_are_refused(request: pytest.FixtureRequest, tmp_path: Path, source: str) -> None:
    uri = place(request, source, ROWS)
    with pytest.raises(TrainerError, match="earlier attempt's digest: sha256:000") as caught:
        dataset(uri, store_for(request, source), tmp_path / "scratch", pin="sha256:" + "0" * 64)
    assert caught.value.reason == TrainerReason.DIGEST_MISMATCH


@pytest.mark.parametrize(
    "uri",
    [
        "pvc://claim/../other/rows.jsonl",
        "pvc://../claim/rows.jsonl",
        "pvc://claim/link/rows.jsonl",
        "pvc://claim/folder",
    ],
)
def test_a_volume_is_not_left(volumes: Path, tmp_path: Path, uri: str) -> None:
    (volumes.parent / "other").mkdir()
    (volumes.parent / "other/rows.jsonl").write_text("secret")
    (volumes / "link").symlink_to(volumes.parent / "other")
    (volumes / "folder").mkdir()
    (volumes / "folder/rows.jsonl").symlink_to(volumes.parent / "other/rows.jsonl")
    with pytest.raises(TrainerError) as caught:
        dataset(uri, NO_STORE, tmp_path / "scratch")
    assert caught.value.reason in {TrainerReason.DATASET_INVALID, TrainerReason.DATASET_NOT_FOUND}
    assert not list((tmp_path / "scratch").rglob("*.jsonl"))


@pytest.mark.parametrize("name", ["../../outside.jsonl", "a\\b.jsonl"])
def test_names_that_lead_out_of_the_folder_are_refused(
    store: ObjectStore, s3_endpoint: str, tmp_path: Path, name: str
) -> None:
    store.put(f"data/{name}", b"row")
    with pytest.raises(TrainerError, match="leads out of its folder"):
        dataset("s3://trimtab/data/", store, tmp_path / "scratch")
    assert not (tmp_path / "outside.jsonl").exists()


def test_a_full_disk_is_noticed_before_the_first_byte(
    request: pytest.FixtureRequest, store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = place(request, "s3", ROWS)
    monkeypatch.setattr("trimtab_trainer.scratch_space.SPARE_BYTES", 1 << 60)
    with pytest.raises(TrainerError, match="scratch") as caught:
        dataset(uri, store, tmp_path / "scratch")
    assert caught.value.reason == TrainerReason.WILL_NOT_FIT
    assert read(tmp_path / "scratch") == {}


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        pytest.param(Fault("truncate", times=3), None, id="cut short three times"),
        pytest.param(Fault("error", times=4, status=503), None, id="busy four times"),
        pytest.param(Fault("error", status=403, code="AccessDenied"), TrainerReason.STORAGE_ACCESS_DENIED, id="denied"),
        pytest.param(
            Fault("error", status=404, code="NoSuchBucket"), TrainerReason.STORAGE_NOT_FOUND, id="no such bucket"
        ),
    ],
)
def test_faults_on_the_way(
    faulty_store: ObjectStore, faults: FaultProxy, tmp_path: Path, fault: Fault, reason: TrainerReason | None
) -> None:
    for name, data in MODEL.items():
        faulty_store.put(f"base/{name}", data)
    fault.hits, fault.when = 0, lambda request: request.method == "GET" and "base" in str(request.query) + request.key
    faults.add(fault)
    if reason is None:
        assert read(model("s3://trimtab/base", faulty_store, tmp_path / "scratch").path) == MODEL
        return
    with pytest.raises(TrainerError) as caught:
        model("s3://trimtab/base", faulty_store, tmp_path / "scratch")
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("repository", "token", "reason", "says"),
    [
        pytest.param(Repository(MODEL, token="t"), "t", None, "", id="private, with the token"),
        pytest.param(
            Repository(MODEL, token="t"), "", TrainerReason.MODEL_NOT_FOUND, "HF_TOKEN", id="private, without"
        ),
        pytest.param(
            Repository(MODEL, token="t", gated=True), "x", TrainerReason.MODEL_ACCESS_DENIED, "gated", id="gated"
        ),
    ],
)
def test_the_hubs_token(
    hub: Hub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    repository: Repository,
    token: str,
    reason: TrainerReason | None,
    says: str,
) -> None:
    hub.repositories["things/base"] = repository
    monkeypatch.setattr("trimtab_trainer.contract.mounts.HUB_DIRECTORY", tmp_path)
    if token:
        (tmp_path / "HF_TOKEN").write_text(token + "\n")
    if reason is None:
        assert read(model("hf://things/base", NO_STORE, tmp_path / "scratch").path) == MODEL
        return
    with pytest.raises(TrainerError, match=says) as caught:
        model("hf://things/base", NO_STORE, tmp_path / "scratch")
    assert caught.value.reason == reason


@pytest.mark.parametrize("revision", ["", "v1", COMMIT])
def test_a_revision_becomes_a_commit(hub: Hub, tmp_path: Path, revision: str) -> None:
    hub.repositories["things/base"] = Repository(MODEL)
    assert model("hf://things/base", NO_STORE, tmp_path, revision=revision).revision == COMMIT
    assert {path.split("/")[3] for path in hub.requested if "/resolve/" in path} == {COMMIT}


def test_an_unknown_revision(hub: Hub, tmp_path: Path) -> None:
    hub.repositories["things/base"] = Repository(MODEL)
    with pytest.raises(TrainerError, match="no revision 'v9'") as caught:
        model("hf://things/base", NO_STORE, tmp_path, revision="v9")
    assert caught.value.reason == TrainerReason.MODEL_NOT_FOUND


def test_a_busy_hub_is_asked_again_and_only_for_what_is_needed(hub: Hub, tmp_path: Path) -> None:
    hub.repositories["things/base"] = Repository(MODEL | UNWANTED)
    hub.failures = 2
    assert read(model("hf://things/base", NO_STORE, tmp_path).path) == MODEL
    assert not [path for path in hub.requested if path.endswith((".bin", ".py", ".pt", ".md"))]


def test_a_hub_that_sends_other_bytes_than_it_lists(hub: Hub, tmp_path: Path) -> None:
    hub.repositories["things/base"] = Repository(MODEL)
    hub.corrupt = True
    with pytest.raises(TrainerError, match=r"model\.safetensors arrived with other bytes") as caught:
        model("hf://things/base", NO_STORE, tmp_path)
    assert caught.value.reason == TrainerReason.STORAGE_UNAVAILABLE


def test_a_hub_that_cannot_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(TrainerError, match=r"http://127\.0\.0\.1:9 cannot be read") as caught:
        model("hf://things/base", NO_STORE, tmp_path)
    assert caught.value.reason == TrainerReason.STORAGE_UNAVAILABLE
