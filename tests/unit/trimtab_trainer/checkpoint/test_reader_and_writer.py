import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from tests.support.fault_proxy import Fault, FaultProxy, Request, flip_bit
from tests.support.object_store import admin_client, make_run_config, make_store, write_credentials

from trimtab_trainer.checkpoint.reader import LoadedCheckpoint, load_latest, read_manifests
from trimtab_trainer.checkpoint.writer import CheckpointWriter
from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.manifests import sha256_hex
from trimtab_trainer.contract.messages import RejectedCheckpoint
from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.store.errors import ObjectNotFoundError
from trimtab_trainer.store.object_store import ObjectInfo, ObjectStore

pytestmark = pytest.mark.usefixtures("fast_retries")
BASE = "runs/team/tone/uid-1/"


def state(step: int) -> dict[str, torch.Tensor]:
    """A small training state that tells its step."""
    return {
        "model.lora_A": torch.full((3, 4), step, dtype=torch.bfloat16),
        "optimizer.exp_avg": torch.full((3, 4), step / 7),
        "rng": torch.full((16,), step % 256, dtype=torch.uint8),
    }


def config_of(attempt: int = 1, **changes: Any) -> RunConfig:
    return make_run_config(make_store("http://unused"), attempt=attempt, changes=changes)


def run(
    store: ObjectStore, steps: list[int], *, attempt: int = 1, parent: LoadedCheckpoint | None = None, **changes: Any
) -> CheckpointWriter:
    """Commit checkpoints one after the other, as one attempt."""
    writer = CheckpointWriter(store, config_of(attempt, **changes), parent=parent)
    for step in steps:
        writer.save(state(step), {"step": step}, step=step, metrics={})
        writer.wait()
    writer.close()
    return writer


def load(store: ObjectStore, attempt: int = 2, **changes: Any) -> LoadedCheckpoint:
    loaded, _ = load_latest(store, config_of(attempt, **changes))
    assert loaded is not None
    return loaded


KEEP_ALL: dict[str, Any] = {"checkpoints": {"keepLast": 100}}


def test_what_is_saved_comes_back_bit_for_bit(store: ObjectStore) -> None:
    document = {"cursor": {"epoch": 1, "index": 7}, "loss": 0.1 + 0.2, "text": "λ"}
    writer = CheckpointWriter(store, config_of(), parent=None, world_size=2)
    stall = writer.save(state(3), document, step=3, metrics={"eval_loss": 1.5, "broken": float("nan")})
    writer.wait()
    loaded = load(store)
    assert stall == writer.stall_seconds > 0
    assert (loaded.step, loaded.attempt, loaded.document) == (3, 1, document)
    assert (loaded.manifest.world_size, loaded.manifest.metrics) == (2, {"eval_loss": 1.5})
    for name, tensor in state(3).items():
        assert loaded.tensors[name].dtype == tensor.dtype
        assert torch.equal(loaded.tensors[name], tensor)
    assert [info.key for info in store.list(BASE)] == [
        BASE + "a1/s3/shard-00000-of-00001.safetensors",
        BASE + "a1/s3/state.json",
        BASE + "manifests/s000000003-a1.json",
    ]
    writer.close()


def test_each_manifest_names_its_parent_across_attempts(store: ObjectStore) -> None:
    run(store, [1, 2], **KEEP_ALL)
    run(store, [3], attempt=2, parent=load(store), **KEEP_ALL)
    manifests = [json.loads(store.get(info.key)) for info in store.list(BASE + "manifests/")]
    digests = [sha256_hex(store.get(info.key)) for info in store.list(BASE + "manifests/")]
    assert [manifest["parent"] for manifest in manifests] == [None, *digests[:2]]


def test_committed_lists_what_is_in_the_store(store: ObjectStore) -> None:
    run(store, [1, 2, 3])
    writer = run(store, [4], attempt=2, parent=load(store))
    assert [(one.step, one.attempt) for one in writer.committed] == [(3, 1), (4, 2)]
    assert writer.committed[-1].uri == f"s3://trimtab/{BASE}manifests/s000000004-a2.json"


def test_a_step_that_is_already_there_is_not_saved_again(store: ObjectStore) -> None:
    run(store, [5])
    before = [(info.key, info.modified) for info in store.list(BASE)]
    writer = run(store, [5], attempt=2, parent=load(store))
    assert [(info.key, info.modified) for info in store.list(BASE)] == before
    assert [one.step for one in writer.committed] == [5]


@pytest.mark.parametrize("resume", ["Auto", "Never"])
def test_nothing_to_resume_from(store: ObjectStore, resume: str) -> None:
    if resume == "Never":
        run(store, [1], checkpoints={"resume": "Never"})
    assert load_latest(store, config_of(2, checkpoints={"resume": resume})) == (None, [])


class Memory:
    """A store in a dictionary, for as many readings as there are ways to damage it."""

    def __init__(self, objects: dict[str, bytes]) -> None:
        self.objects = dict(objects)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        for key in sorted(self.objects):
            if key.startswith(prefix):
                yield ObjectInfo(key, len(self.objects[key]), "", datetime.now(UTC), {})

    def get(self, key: str) -> bytes:
        if key not in self.objects:
            raise ObjectNotFoundError(TrainerReason.STORAGE_NOT_FOUND, key)
        return self.objects[key]

    def put(self, key: str, data: bytes) -> None:
        self.objects[key] = data

    def delete(self, key: str) -> None:
        del self.objects[key]

    def download_file(self, key: str, path: Path) -> str:
        path.write_bytes(self.get(key))
        return sha256_hex(self.get(key))

    def uri(self, key: str) -> str:
        return f"s3://trimtab/{key}"


def load_from(memory: Memory) -> tuple[LoadedCheckpoint | None, list[RejectedCheckpoint]]:
    return load_latest(cast("ObjectStore", memory), config_of(2, **KEEP_ALL))


@pytest.fixture(scope="module")
def three_checkpoints(moto_endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Every object of a run that saved at the steps 10, 20 and 30."""
    admin = admin_client(moto_endpoint)
    admin.create_bucket(Bucket="three")
    credentials = write_credentials(tmp_path_factory.mktemp("three") / "credentials")
    with ObjectStore.open(make_store(moto_endpoint, bucket="three"), credentials=credentials) as store:
        run(store, [10, 20, 30], **KEEP_ALL)
        objects = {info.key: store.get(info.key) for info in store.list(BASE)}
        for key in objects:
            store.delete(key)
    admin.delete_bucket(Bucket="three")
    admin.close()
    return objects


Damage = Callable[[Any], None]
SHARD = "a1/s30/shard-00000-of-00001.safetensors"
STATE = "a1/s30/state.json"
MANIFEST = "manifests/s000000030-a1.json"


def flip(name: str) -> Damage:
    return lambda store: store.put(BASE + name, flip_bit(store.get(BASE + name)))


def replace(name: str, data: bytes) -> Damage:
    return lambda store: store.put(BASE + name, data)


def remove(*names: str) -> Damage:
    def damage(store: Any) -> None:
        for name in names:
            store.delete(BASE + name)

    return damage


def edit(name: str, **fields: Any) -> Damage:
    def damage(store: Any) -> None:
        manifest = {**json.loads(store.get(BASE + name)), **fields}
        store.put(BASE + name, json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode())

    return damage


def both(*damages: Damage) -> Damage:
    def damage(store: Any) -> None:
        for one in damages:
            one(store)

    return damage


@pytest.mark.parametrize(
    ("damage", "resumed_from", "why"),
    [
        pytest.param(lambda _: None, 30, [], id="nothing damaged"),
        pytest.param(flip(SHARD), 20, ["does not match its manifest"], id="newest: flipped bit in the tensors"),
        pytest.param(flip(STATE), 20, ["does not match its manifest"], id="newest: flipped bit in the document"),
        pytest.param(flip(MANIFEST), 20, [""], id="newest: flipped bit in the manifest"),
        pytest.param(replace(SHARD, b"short"), 20, ["5 bytes with sha256"], id="newest: truncated"),
        pytest.param(remove(SHARD), 20, ["is missing"], id="newest: missing file"),
        pytest.param(replace(MANIFEST, b"garbage"), 20, ["not readable"], id="newest: manifest is garbage"),
        pytest.param(replace(MANIFEST, b""), 20, ["not readable"], id="newest: manifest is empty"),
        pytest.param(
            edit(MANIFEST, metrics={"eval_loss": 0.0}), 20, ["changed afterwards"], id="newest: manifest was edited"
        ),
        pytest.param(
            edit(MANIFEST, configSha256="0" * 64), 20, ["another configuration"], id="newest: other configuration"
        ),
        pytest.param(
            edit(MANIFEST, job={"namespace": "team", "name": "tone", "uid": "uid-0"}),
            20,
            ["another job: uid uid-0"],
            id="other job",
        ),
        pytest.param(edit(MANIFEST, step=31), 20, ["step 31"], id="newest: manifest of another step"),
        pytest.param(edit(MANIFEST, files=[]), 20, ["must hold the files"], id="newest: no files"),
        pytest.param(edit(MANIFEST, schema="trimtab.dev/checkpoint/v2"), 20, ["schema"], id="newest: another format"),
        pytest.param(flip("a1/s20/state.json"), 30, [], id="middle damaged, newest good"),
        pytest.param(both(flip(STATE), flip("a1/s20/state.json")), 10, ["state.json", "state.json"], id="two damaged"),
        pytest.param(
            both(flip(STATE), remove("manifests/s000000020-a1.json")), 10, ["state.json"], id="damaged, parent deleted"
        ),
        pytest.param(remove(MANIFEST), 20, [], id="files without a manifest are not a checkpoint"),
        pytest.param(replace("manifests/notes.txt", b"hello"), 30, [], id="other files beside the manifests"),
        pytest.param(
            both(*(flip(f"a1/s{step}/state.json") for step in (10, 20, 30))),
            None,
            ["", "", ""],
            id="everything damaged",
        ),
    ],
)
def test_only_intact_checkpoints_are_loaded(
    three_checkpoints: dict[str, bytes], damage: Damage, resumed_from: int | None, why: list[str]
) -> None:
    memory = Memory(three_checkpoints)
    damage(memory)
    before = dict(memory.objects)
    loaded, rejected = load_from(memory)
    assert (loaded.step if loaded else None) == resumed_from
    assert len(rejected) == len(why)
    assert all(expected in one.why for expected, one in zip(why, rejected, strict=True)), rejected
    if loaded:
        assert torch.equal(loaded.tensors["rng"], state(loaded.step)["rng"])
    assert memory.objects == before


@pytest.mark.parametrize("name", [SHARD, STATE, MANIFEST])
def test_no_single_flipped_bit_is_ever_loaded(three_checkpoints: dict[str, bytes], name: str) -> None:
    memory = Memory(three_checkpoints)
    good = memory.objects[BASE + name]
    for position in range(len(good)):
        flipped = good[position] ^ (1 << position % 8)
        memory.objects[BASE + name] = good[:position] + bytes([flipped]) + good[position + 1 :]
        loaded, rejected = load_from(memory)
        assert loaded is not None
        assert (loaded.step, len(rejected)) == (20, 1), position


def test_a_zombies_later_commits_are_ignored(store: ObjectStore) -> None:
    zombie = CheckpointWriter(store, config_of(1, **KEEP_ALL), parent=None)
    zombie.save(state(10), {}, step=10, metrics={})
    zombie.wait()
    resumed = load(store, attempt=2, **KEEP_ALL)
    zombie.save(state(20), {}, step=20, metrics={})
    zombie.wait()
    run(store, [15], attempt=2, parent=resumed, **KEEP_ALL)
    assert load(store, attempt=3, **KEEP_ALL).step == 15
    zombie.save(state(30), {}, step=30, metrics={})
    with pytest.raises(TrainerError, match="newer attempt") as caught:
        zombie.wait()
    assert caught.value.reason == TrainerReason.INTERRUPTED
    assert load(store, attempt=3, **KEEP_ALL).step == 15
    zombie.close()


def test_a_store_that_cannot_be_read_is_not_a_damaged_checkpoint(faulty_store: ObjectStore, faults: FaultProxy) -> None:
    run(faulty_store, [10, 20])
    faults.add(Fault("error", lambda request: request.method == "GET" and "s20/" in request.key, status=503))
    with pytest.raises(TrainerError) as caught:
        load_latest(faulty_store, config_of(2))
    assert caught.value.reason == TrainerReason.STORAGE_UNAVAILABLE


def puts(part: str) -> Callable[[Request], bool]:
    return lambda request: request.method == "PUT" and part in request.key


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault("loseReply", puts("shard"), times=1), id="tensors written, reply lost"),
        pytest.param(Fault("loseReply", puts("state.json"), times=3), id="document written, three replies lost"),
        pytest.param(Fault("loseReply", puts("manifests/"), times=1), id="manifest written, reply lost"),
        pytest.param(
            Fault("loseReply", puts("manifests/"), times=5), id="manifest written, every reply of the request lost"
        ),
        pytest.param(
            Fault("error", puts("manifests/"), times=7, status=500), id="an outage longer than one request's tries"
        ),
        pytest.param(Fault("error", puts("shard"), times=12, status=503, code="SlowDown"), id="throttled for long"),
        pytest.param(
            Fault("error", puts("shard"), times=3, status=403, code="InvalidAccessKeyId"), id="keys are being rotated"
        ),
        pytest.param(
            Fault("truncate", lambda request: request.method == "GET" and "shard" in request.key, times=2),
            id="read-back cut",
        ),
    ],
)
def test_passing_faults_lose_nothing(faulty_store: ObjectStore, faults: FaultProxy, fault: Fault) -> None:
    fault.hits = 0
    faults.add(fault)
    writer = run(faulty_store, [10, 20])
    assert [one.step for one in writer.committed] == [10, 20]
    assert fault.hits == fault.times
    assert load(faulty_store).step == 20


def test_access_that_stays_denied_ends_the_attempt(
    faulty_store: ObjectStore, faults: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trimtab_trainer.checkpoint.commit.ROTATION_SECONDS", 0.1)
    writer = CheckpointWriter(faulty_store, config_of(), parent=None)
    faults.add(Fault("error", puts("shard"), status=403, code="InvalidAccessKeyId"))
    writer.save(state(10), {}, step=10, metrics={})
    with pytest.raises(TrainerError) as caught:
        writer.wait()
    assert caught.value.reason == TrainerReason.STORAGE_ACCESS_DENIED
    with pytest.raises(TrainerError, match="access denied"):
        writer.save(state(11), {}, step=11, metrics={})
    writer.close()


@pytest.mark.parametrize("part", ["shard", "state.json"])
def test_bytes_that_arrive_damaged_are_never_committed(
    faulty_store: ObjectStore, faults: FaultProxy, part: str
) -> None:
    writer = CheckpointWriter(faulty_store, config_of(checkpoints={"keepLast": 1}), parent=None)
    writer.save(state(10), {}, step=10, metrics={})
    writer.wait()
    faults.add(Fault("flipRequest", lambda request: puts(part)(request) and "s20/" in request.key))
    writer.save(state(20), {}, step=20, metrics={})
    with pytest.raises(TrainerError, match="does not give back what was written"):
        writer.wait()
    assert [one.step for one in writer.committed] == [10]
    assert load(faulty_store).step == 10
    writer.close()


@pytest.mark.parametrize("stage", ["shard", "state.json", "manifests/"])
def test_a_writer_that_dies_on_the_way_leaves_the_older_checkpoint(
    faulty_store: ObjectStore, faults: FaultProxy, stage: str
) -> None:
    run(faulty_store, [10])
    loaded = load(faulty_store, attempt=1)
    fault = faults.add(Fault("error", lambda request: puts(stage)(request) and "20" in request.key, status=503))
    dying = CheckpointWriter(faulty_store, config_of(), parent=loaded)
    dying.save(state(20), {}, step=20, metrics={})
    with pytest.raises(TrainerError, match="not uploaded in"):
        dying.wait(timeout=0.2)
    dying.close()
    fault.times = 0
    assert load(faulty_store).step == 10
    writer = run(faulty_store, [21], attempt=2, parent=load(faulty_store))
    writer.finish()
    assert not [info.key for info in faulty_store.list(BASE) if "/s20/" in info.key]


def test_leftovers_of_the_same_attempt_are_not_overwritten(store: ObjectStore) -> None:
    store.put(BASE + SHARD, b"left by a process that died")
    run(store, [30])
    assert store.get(BASE + SHARD) == b"left by a process that died"
    assert load(store).step == 30


def test_two_processes_of_one_attempt_cannot_commit_the_same_step(store: ObjectStore) -> None:
    first = run(store, [10])
    second = CheckpointWriter(store, config_of(), parent=None)
    second.save(state(11), {}, step=10, metrics={})
    with pytest.raises(TrainerError, match="another process writes there"):
        second.wait()
    second.close()
    assert [one.step for one in first.committed] == [10]
    assert load(store).tensors["rng"][0] == 10


def test_credentials_that_may_only_read_are_found_before_training(
    faulty_store: ObjectStore, faults: FaultProxy
) -> None:
    faults.add(Fault("error", lambda request: request.method in {"PUT", "POST"}, status=403, code="AccessDenied"))
    with pytest.raises(TrainerError, match="cannot write") as caught:
        CheckpointWriter(faulty_store, config_of(), parent=None)
    assert caught.value.reason == TrainerReason.STORAGE_ACCESS_DENIED


def test_the_newest_snapshot_replaces_one_that_waits(faulty_store: ObjectStore, faults: FaultProxy) -> None:
    writer = CheckpointWriter(faulty_store, config_of(**KEEP_ALL), parent=None)
    hold = faults.add(Fault("hold", puts("s10/shard")))
    for step in (10, 20, 30, 40):
        writer.save(state(step), {"step": step}, step=step, metrics={})
        assert hold.arrived.wait(timeout=30)
    assert writer.committed == []
    hold.released.set()
    writer.wait()
    assert [one.step for one in writer.committed] == [10, 40]
    loaded = load(faulty_store, **KEEP_ALL)
    assert (loaded.step, loaded.document) == (40, {"step": 40})
    assert torch.equal(loaded.tensors["rng"], state(40)["rng"])
    writer.close()


def test_a_snapshot_is_what_was_true_when_it_was_taken(faulty_store: ObjectStore, faults: FaultProxy) -> None:
    writer = CheckpointWriter(faulty_store, config_of(), parent=None)
    hold = faults.add(Fault("hold", puts("shard")))
    tensors, document = state(10), {"history": [1]}
    writer.save(tensors, document, step=10, metrics={})
    document["history"].append(2)
    tensors["rng"].fill_(99)
    hold.released.set()
    writer.wait()
    loaded = load(faulty_store)
    assert (loaded.document, loaded.tensors["rng"][0]) == ({"history": [1]}, 10)
    writer.close()


def test_what_may_change_on_the_way_does_not_refuse_a_checkpoint(store: ObjectStore) -> None:
    run(store, [10])
    changed = config_of(2, checkpoints={"keepLast": 5, "keepBest": 2}, store={"probe": True}, image="trainer:2")
    assert read_manifests(store, changed)[1] == []
    other = config_of(2, training={"learningRate": 0.1})
    assert "another configuration" in read_manifests(store, other)[1][0].why
