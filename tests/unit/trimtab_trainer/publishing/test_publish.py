import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.fault_proxy import Fault, FaultProxy, flip_bit
from tests.support.object_store import make_run_config, make_store

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.manifests import config_sha256, sha256_hex
from trimtab_trainer.contract.messages import PublishedModel, VersionReply
from trimtab_trainer.contract.run_config import ResolvedDataset, RunConfig
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.fetch.by_uri import fetch_artifact
from trimtab_trainer.publishing.publish import ModelOrigin, publish
from trimtab_trainer.store.object_store import ObjectStore

pytestmark = pytest.mark.usefixtures("fast_retries", "small_parts")

FILES = {
    "README.md": b"# tone",
    "adapter_config.json": b"{}",
    "adapter_model.safetensors": bytes(range(256)) * 1000,
    "chat/template.jinja": b"{{ x }}",
}
BASE = "runs/team/models/tone/"
DIGEST = "sha256:" + "d" * 64


def config_of(attempt: int = 1, uid: str = "uid-1") -> RunConfig:
    return make_run_config(make_store("http://unused"), attempt=attempt, changes={"job": {"uid": uid}})


def reserve(taken: list[int]) -> VersionReply:
    version = max(taken, default=0) + 1
    return VersionReply(name=f"tone-v{version}", version=version)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write(tmp_path / "export", FILES)


def write(directory: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(data)
    return directory


def run(store: ObjectStore, directory: Path, config: RunConfig | None = None, **changes: Any) -> PublishedModel:
    origin = {
        "base_model_digest": DIGEST,
        "datasets": [ResolvedDataset(uri="s3://data/train.jsonl", digest=DIGEST, examples=7)],
        "metrics": {"eval_loss": 0.5, "broken": float("nan")},
        "step": 40,
        "format": "peftAdapter",
    }
    return publish(
        directory,
        store=store,
        config=config or config_of(),
        reserve=reserve,
        origin=ModelOrigin(**{**origin, **changes}),
    )


def test_a_published_model_can_be_fetched_and_says_where_it_comes_from(
    store: ObjectStore, directory: Path, tmp_path: Path
) -> None:
    published = run(store, directory)
    assert (published.name, published.version, published.uri) == ("tone-v1", 1, f"s3://trimtab/{BASE}1")
    assert (published.files, published.size_bytes) == (4, sum(map(len, FILES.values())))
    data = store.get(f"{BASE}1/manifest.json")
    assert published.manifest_sha256 == sha256_hex(data)
    manifest = json.loads(data)
    assert manifest["schema"] == "trimtab.dev/model/v1"
    assert manifest["baseModel"] == {"uri": "s3://models/base", "digest": DIGEST}
    assert manifest["lineage"]["configDigest"] == published.config_digest == f"sha256:{config_sha256(config_of())}"
    assert manifest["metrics"] == {"eval_loss": 0.5}
    for uri in (published.uri, f"{published.uri}/manifest.json"):
        fetched = fetch_artifact(
            uri, manifest_sha256=published.manifest_sha256, store=store, directory=tmp_path / "scratch"
        )
        assert {
            path.relative_to(fetched.path).as_posix(): path.read_bytes()
            for path in fetched.path.rglob("*")
            if path.is_file()
        } == FILES
        assert fetched.manifest.lineage.step == 40


def test_publishing_again_after_a_crash_changes_nothing(store: ObjectStore, directory: Path) -> None:
    first = run(store, directory)
    before = [(info.key, info.modified) for info in store.list(BASE)]
    (directory / "README.md").write_text("another text")
    again = run(store, directory, config_of(attempt=2), step=50)
    assert again.model_copy(update={"verified_at": ""}) == first.model_copy(update={"verified_at": ""})
    assert [(info.key, info.modified) for info in store.list(BASE)] == before


def occupy(path: str, data: bytes = b"foreign") -> Callable[[ObjectStore, Path], None]:
    return lambda store, _: store.put(f"{BASE}1/{path}", data)


def another_job(store: ObjectStore, directory: Path) -> None:
    run(store, directory, config_of(uid="uid-0"))


def ours_damaged(store: ObjectStore, directory: Path) -> None:
    run(store, directory)
    key = f"{BASE}1/adapter_model.safetensors"
    store.put(key, flip_bit(store.get(key)))


@pytest.mark.parametrize(
    "before",
    [
        pytest.param(another_job, id="another job's model"),
        pytest.param(occupy("manifest.json"), id="a manifest that nobody can read"),
        pytest.param(occupy("adapter_config.json"), id="somebody's file without a manifest"),
        pytest.param(ours_damaged, id="our own model, damaged since"),
    ],
)
def test_a_taken_place_is_left_alone(
    store: ObjectStore, directory: Path, before: Callable[[ObjectStore, Path], None]
) -> None:
    before(store, directory)
    occupied = {info.key: store.get(info.key) for info in store.list(f"{BASE}1/")}
    (directory / "README.md").write_text("# a later export")
    published = run(store, directory, config_of(attempt=2))
    assert published.version == 2
    after = {info.key: store.get(info.key) for info in store.list(f"{BASE}1/")}
    assert {key: after[key] for key in occupied} == occupied


def test_what_a_crashed_attempt_left_is_replaced(
    faulty_store: ObjectStore, faults: FaultProxy, directory: Path, tmp_path: Path
) -> None:
    crash = faults.add(Fault("error", lambda request: request.method == "PUT" and "manifest.json" in request.key))
    write(directory, {"extra.safetensors": b"only in the first export"})
    with pytest.raises(TrainerError):
        run(faulty_store, directory)
    crash.times = 0
    published = run(faulty_store, write(tmp_path / "second", FILES | {"README.md": b"# second"}), config_of(attempt=2))
    assert published.version == 1
    assert faulty_store.get(f"{BASE}1/README.md") == b"# second"
    assert faulty_store.head(f"{BASE}1/extra.safetensors") is None
    fetch_artifact(
        published.uri, manifest_sha256=published.manifest_sha256, store=faulty_store, directory=tmp_path / "scratch"
    )


def test_a_zombie_does_not_replace_what_its_successor_writes(
    faulty_store: ObjectStore, faults: FaultProxy, directory: Path, tmp_path: Path
) -> None:
    faults.add(Fault("error", lambda request: request.method == "PUT" and "manifest.json" in request.key, times=5))
    with pytest.raises(TrainerError):
        run(faulty_store, directory, config_of(attempt=2))
    zombies = write(tmp_path / "zombie", FILES | {"README.md": b"# zombie"})
    assert run(faulty_store, zombies, config_of(attempt=1)).version == 2
    assert faulty_store.get(f"{BASE}1/README.md") == FILES["README.md"]


@pytest.mark.parametrize("name", ["README.md", "adapter_model.safetensors", "manifest.json"])
@pytest.mark.parametrize("kind", ["flipRequest", "loseReply"])
def test_damaged_bytes_are_noticed_and_lost_replies_are_not_a_failure(
    faulty_store: ObjectStore, faults: FaultProxy, directory: Path, name: str, kind: str
) -> None:
    faults.add(Fault(kind, lambda request: request.method == "PUT" and request.key.endswith(name), times=1))
    if kind == "loseReply":
        assert run(faulty_store, directory).version == 1
        return
    with pytest.raises(TrainerError, match="does not give back") as caught:
        run(faulty_store, directory)
    assert caught.value.reason == TrainerReason.STORAGE_UNAVAILABLE


@pytest.mark.parametrize("name", ["pytorch_model.bin", "optimizer.pt", "modeling.py", "manifest.json"])
def test_pickles_and_code_are_not_published(store: ObjectStore, directory: Path, name: str) -> None:
    write(directory, {name: b""})
    with pytest.raises(TrainerError, match=f"'{name}' must not be published"):
        run(store, directory)
    assert not list(store.list(BASE))


@pytest.mark.parametrize(
    ("damage", "reason", "says"),
    [
        pytest.param("flip", TrainerReason.DIGEST_MISMATCH, "changed it after it was published", id="a flipped bit"),
        pytest.param("delete", TrainerReason.DIGEST_MISMATCH, "incomplete", id="a missing file"),
        pytest.param("manifest", TrainerReason.DIGEST_MISMATCH, "manifestSha256", id="another manifest"),
        pytest.param("gone", TrainerReason.MODEL_NOT_FOUND, "no manifest.json", id="no manifest"),
    ],
)
def test_a_changed_artifact_is_never_returned(
    store: ObjectStore, directory: Path, tmp_path: Path, damage: str, reason: TrainerReason, says: str
) -> None:
    published = run(store, directory)
    weights, manifest = f"{BASE}1/adapter_model.safetensors", f"{BASE}1/manifest.json"
    if damage == "flip":
        store.put(weights, flip_bit(store.get(weights)))
    elif damage == "manifest":
        store.put(manifest, store.get(manifest) + b" ")
    else:
        store.delete(weights if damage == "delete" else manifest)
    with pytest.raises(TrainerError, match=says) as caught:
        fetch_artifact(
            published.uri, manifest_sha256=published.manifest_sha256, store=store, directory=tmp_path / "scratch"
        )
    assert caught.value.reason == reason
