from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import torch
from tests.support.fault_proxy import Fault, FaultProxy
from tests.support.object_store import make_run_config, make_store

from trimtab_trainer.checkpoint.chain import StoredCheckpoint
from trimtab_trainer.checkpoint.reader import LoadedCheckpoint, load_latest, read_manifests
from trimtab_trainer.checkpoint.retention import delete_checkpoint, expendable, sweep
from trimtab_trainer.checkpoint.writer import CheckpointWriter
from trimtab_trainer.contract.manifests import CheckpointManifest
from trimtab_trainer.contract.run_config import JobIdentity, RunConfig
from trimtab_trainer.store.object_store import ObjectStore

pytestmark = pytest.mark.usefixtures("fast_retries")
BASE = "runs/team/tone/uid-1/"


def config_of(attempt: int = 1, **changes: Any) -> RunConfig:
    return make_run_config(make_store("http://unused"), attempt=attempt, changes=changes)


def stored(step: int, metrics: dict[str, float], attempt: int = 1) -> StoredCheckpoint:
    manifest = CheckpointManifest(
        job=JobIdentity(namespace="team", name="tone", uid="uid-1"),
        attempt=attempt,
        step=step,
        world_size=1,
        parent=None,
        files=[],
        config_sha256="0" * 64,
        metrics=metrics,
        created_at="2026-01-01T00:00:00Z",
    )
    key = f"{BASE}manifests/s{step:09d}-a{attempt}.json"
    return StoredCheckpoint(key, key, manifest, f"{step}-{attempt}")


@pytest.mark.parametrize(
    ("losses", "keep_last", "keep_best", "selection", "kept"),
    [
        pytest.param([], 2, 1, None, [], id="nothing yet"),
        pytest.param([3.0], 2, 1, None, [10], id="fewer than are kept"),
        pytest.param([3.0, 1.0, 2.0, 2.5], 2, 1, None, [20, 30, 40], id="the last two and the best"),
        pytest.param([3.0, 2.0, 1.0], 2, 1, None, [20, 30], id="the best is among the last"),
        pytest.param([1.0, 2.0, 1.5, 3.0, 4.0], 1, 2, None, [10, 30, 50], id="two best"),
        pytest.param([3.0, 1.0, 2.0], 1, 0, None, [30], id="no best"),
        pytest.param([None, None, None], 1, 1, None, [30], id="without the metric"),
        pytest.param([1.0, 1.0, 2.0], 1, 1, None, [10, 30], id="of equals the older"),
        pytest.param([0.1, 0.9, 0.5], 1, 1, {"metric": "eval_loss", "mode": "max"}, [20, 30], id="larger is better"),
        pytest.param([1.0, 2.0, 3.0], 1, 1, {"metric": "eval_accuracy", "mode": "max"}, [30], id="another metric"),
    ],
)
def test_what_stays(
    losses: Sequence[float | None], keep_last: int, keep_best: int, selection: dict[str, str] | None, kept: list[int]
) -> None:
    chain = [
        stored(10 * number, {} if loss is None else {"eval_loss": loss}) for number, loss in enumerate(losses, start=1)
    ]
    config = config_of(checkpoints={"keepLast": keep_last, "keepBest": keep_best}, training={"selectBestBy": selection})
    leaving = [checkpoint.manifest.step for checkpoint in expendable(chain, config)]
    assert [one.manifest.step for one in chain if one.manifest.step not in leaving] == kept


def run(
    store: ObjectStore,
    losses: dict[int, float],
    *,
    attempt: int = 1,
    parent: LoadedCheckpoint | None = None,
    **changes: Any,
) -> CheckpointWriter:
    writer = CheckpointWriter(store, config_of(attempt, **changes), parent=parent)
    for step, loss in losses.items():
        writer.save({"weight": torch.full((4,), float(step))}, {}, step=step, metrics={"eval_loss": loss})
        writer.wait()
    writer.close()
    return writer


def load(store: ObjectStore, attempt: int = 2) -> LoadedCheckpoint:
    loaded, _ = load_latest(store, config_of(attempt))
    assert loaded is not None
    return loaded


def steps_in(store: ObjectStore) -> list[str]:
    """Every checkpoint of which anything is left, `step-attempt` for files, `m` for manifests."""
    found = set()
    for info in store.list(BASE):
        parts = info.key.removeprefix(BASE).split("/")
        found.add(f"{parts[1][1:]}-{parts[0]}" if parts[0] != "manifests" else f"m{parts[1]}")
    return sorted(found)


def manifests(*names: str) -> list[str]:
    return [f"ms{int(name.split('-')[0]):09d}-{name.split('-')[1]}.json" for name in names]


def test_what_leaves_leaves_whole_and_the_manifest_first(faulty_store: ObjectStore, faults: FaultProxy) -> None:
    writer = run(faulty_store, {1: 1.0, 2: 3.0, 3: 4.0, 4: 5.0})
    assert [one.step for one in writer.committed] == [1, 3, 4]
    assert steps_in(faulty_store) == sorted(["1-a1", "3-a1", "4-a1", *manifests("1-a1", "3-a1", "4-a1")])
    deleted = [request.key.removeprefix(BASE) for request in faults.requests if request.method == "DELETE"]
    assert deleted[1].startswith("manifests/s000000002")
    assert {key.split("/")[1] for key in deleted[2:]} == {"s2"}


def test_retention_goes_on_across_attempts_and_remembers_the_best(store: ObjectStore) -> None:
    run(store, {1: 1.0, 2: 3.0, 3: 4.0})
    resumed = load(store)
    assert [one.manifest.step for one in resumed.ancestors] == [2, 1]
    writer = run(store, {4: 5.0, 5: 6.0}, attempt=2, parent=resumed)
    assert [one.step for one in writer.committed] == [1, 4, 5]
    assert steps_in(store) == sorted(["1-a1", "4-a2", "5-a2", *manifests("1-a1", "4-a2", "5-a2")])


def test_what_was_resumed_from_stays_until_something_newer_is_verified(
    faulty_store: ObjectStore, faults: FaultProxy
) -> None:
    run(faulty_store, {1: 1.0}, checkpoints={"keepLast": 1, "keepBest": 0})
    parent = load(faulty_store)
    writer = CheckpointWriter(faulty_store, config_of(2, checkpoints={"keepLast": 1, "keepBest": 0}), parent=parent)
    hold = faults.add(Fault("hold", lambda request: request.method == "GET" and "s2/" in request.key))
    writer.save({"weight": torch.zeros(4)}, {}, step=2, metrics={})
    assert hold.arrived.wait(timeout=30)
    assert "1-a1" in steps_in(faulty_store)
    hold.released.set()
    writer.wait()
    assert steps_in(faulty_store) == sorted(["2-a2", *manifests("2-a2")])
    writer.close()


def test_a_store_that_does_not_delete_is_no_reason_to_fail(faulty_store: ObjectStore, faults: FaultProxy) -> None:
    writer = CheckpointWriter(faulty_store, config_of(checkpoints={"keepLast": 1, "keepBest": 0}), parent=None)
    fault = faults.add(Fault("error", lambda request: request.method == "DELETE", status=503))
    for step in (1, 2):
        writer.save({"weight": torch.zeros(4)}, {}, step=step, metrics={})
        writer.wait()
    assert [one.step for one in writer.committed] == [1, 2]
    fault.times = 0
    writer.save({"weight": torch.zeros(4)}, {}, step=3, metrics={})
    writer.wait()
    assert [one.step for one in writer.committed] == [3]
    writer.close()


def test_a_manifest_cannot_have_other_objects_deleted(store: ObjectStore) -> None:
    store.put("runs/precious", b"")
    run(store, {1: 1.0})
    (checkpoint,) = read_manifests(store, config_of())[0]
    damaged = checkpoint.manifest.files[0].model_copy(update={"key": "runs/precious"})
    manifest = checkpoint.manifest.model_copy(update={"files": [damaged]})
    assert delete_checkpoint(store, StoredCheckpoint(checkpoint.key, checkpoint.uri, manifest, checkpoint.sha256))
    assert [info.key for info in store.list("")] == ["runs/precious"]


@pytest.mark.parametrize(
    ("key", "age", "stays"),
    [
        pytest.param(BASE + "a2/s9/shard", timedelta(), False, id="our own leftover"),
        pytest.param(BASE + "a1/s9/shard", timedelta(), False, id="a dead attempt's"),
        pytest.param(BASE + "a3/s9/shard", timedelta(), True, id="a newer attempt's"),
        pytest.param(BASE + "a3/s9/shard", timedelta(hours=25), False, id="a newer attempt's, a day old"),
        pytest.param(BASE + "a1/s2/shard", timedelta(), True, id="a committed checkpoint"),
        pytest.param(BASE + "probe/x/y", timedelta(), False, id="the probe's"),
        pytest.param(BASE + "reports/report.md", timedelta(days=9), True, id="a report"),
        pytest.param("runs/team/tone/uid-2/a1/s9/shard", timedelta(days=9), True, id="another job's"),
        pytest.param("runs/team/models/tone/1/model", timedelta(days=9), True, id="a model"),
    ],
)
def test_sweep(store: ObjectStore, *, key: str, age: timedelta, stays: bool) -> None:
    store.put(BASE + "manifests/s000000002-a1.json", b"{}")
    store.put(key, b"")
    sweep(store, config_of(2), beside=[], now=datetime.now(UTC) + age)
    assert (store.head(key) is not None) == stays
    assert store.head(BASE + "manifests/s000000002-a1.json") is not None


def test_a_sweep_ends_no_upload_of_a_newer_attempt(store: ObjectStore) -> None:
    for attempt in (1, 2, 3):
        store.client.create_multipart_upload(Bucket="trimtab", Key=f"{BASE}a{attempt}/s7/shard")
    sweep(store, config_of(2), beside=[])
    left = store.client.list_multipart_uploads(Bucket="trimtab")["Uploads"]
    assert [upload["Key"] for upload in left] == [f"{BASE}a3/s7/shard"]


def test_a_finished_job_leaves_what_was_asked_for_and_what_is_damaged(store: ObjectStore) -> None:
    run(store, {1: 1.0, 2: 2.0})
    abandoned = run(store, {5: 9.0}, attempt=1, parent=load(store, attempt=1), checkpoints={"keepLast": 9})
    assert len(abandoned.committed) == 3
    store.put(BASE + "manifests/s000000002-a1.json", b"damaged")
    store.delete(BASE + "a1/s5/state.json")
    loaded, rejected = load_latest(store, config_of(2))
    assert loaded is not None
    assert (loaded.step, [one.step for one in rejected]) == (1, [2, 5])
    upload = store.client.create_multipart_upload(Bucket="trimtab", Key=BASE + "a1/s7/shard")
    assert upload["UploadId"]
    writer = CheckpointWriter(store, config_of(2), parent=loaded, rejected=rejected)
    writer.save({"weight": torch.zeros(4)}, {}, step=6, metrics={"eval_loss": 0.5})
    writer.finish()
    assert [one.step for one in writer.committed] == [1, 6]
    expected = ["1-a1", "2-a1", "5-a1", "6-a2", *manifests("1-a1", "2-a1", "5-a1", "6-a2")]
    assert steps_in(store) == sorted(expected)
    assert "Uploads" not in store.client.list_multipart_uploads(Bucket="trimtab")


def test_a_zombies_checkpoint_is_swept_when_its_successor_finishes(store: ObjectStore) -> None:
    zombie = CheckpointWriter(store, config_of(1, checkpoints={"keepLast": 9}), parent=None)
    zombie.save({"weight": torch.zeros(4)}, {}, step=1, metrics={})
    zombie.wait()
    successor = CheckpointWriter(store, config_of(2, checkpoints={"keepLast": 9}), parent=load(store))
    zombie.save({"weight": torch.zeros(4)}, {}, step=5, metrics={})
    zombie.wait()
    successor.save({"weight": torch.zeros(4)}, {}, step=3, metrics={})
    successor.finish()
    zombie.close()
    assert steps_in(store) == sorted(["1-a1", "3-a2", *manifests("1-a1", "3-a2")])
