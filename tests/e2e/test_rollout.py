"""From version to version under load: steps, promotion, rollback by analysis, memory, time; then whatever can be wrong, and its fix."""

import json
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from tests.support import kube
from tests.support.imports import imported_version, trained_adapters
from tests.support.jobs import fresh_namespace, secret
from tests.support.kube import Manifest
from tests.support.load import answers, steady_load
from tests.support.store import Bucket

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[2]
MODEL = "tone"
ANALYSIS = {
    "metrics": [
        {
            "name": "errors",
            "provider": {"server": {"metric": "errorRate", "minimumRequests": 5}},
            "successCondition": "result == 0",
            "interval": "2s",
            "count": 2,
        },
        {
            "name": "length",
            "provider": {"server": {"metric": "answerTokens", "minimumRequests": 5}},
            "failureCondition": "result > champion * 3",
            "interval": "2s",
            "count": 2,
        },
    ]
}
STEPS = [{"setWeight": 10}, {"pause": {"duration": "6s"}}, {"setWeight": 50}, {"analysis": ANALYSIS}]


@pytest.fixture(scope="module")
def place(bucket: Bucket, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A namespace with three versions: a plain one, a better one, and one that rambles."""
    namespace = "e2e-rollout"
    adapters = trained_adapters(bucket, tmp_path_factory.mktemp("adapters"))
    with fresh_namespace(namespace, bucket):
        made = [
            imported_version(namespace, bucket, MODEL, number, adapters[name])
            for number, name in enumerate(("plain", "better", "rambling"), start=1)
        ]
        absent = "s3://trimtab/assets/models/absent"
        made.append(imported_version(namespace, bucket, MODEL, 4, adapters["better"], base=absent))
        made.append(imported_version(namespace, bucket, MODEL, 5, adapters["better"]))
        bucket.flip_a_byte(bucket.below(namespace, "models", MODEL, "5", "adapter_model.safetensors"))
        kube.apply(*made)
        yield namespace


def rollout(namespace: str, name: str = MODEL, **spec: Any) -> Manifest:
    return {
        "apiVersion": "trimtab.dev/v1alpha1",
        "kind": "ModelRollout",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"modelName": MODEL, "version": 1, **spec},
    }


def status_of(namespace: str, name: str = MODEL) -> Manifest:
    found: Manifest = (kube.get("mro", name, namespace) or {}).get("status", {})
    return found


def wait(
    namespace: str, state: str, version: int | None = None, *, name: str = MODEL, timeout: float = 120
) -> Manifest:
    def look() -> Manifest | None:
        status = status_of(namespace, name)
        at_rest = status.get("state") == state and (version is None or status.get("stableVersion") == version)
        return status if at_rest else None

    return kube.eventually(look, what=f"{name} {state} with version {version}", timeout=timeout, every=0.5)


def change(namespace: str, name: str = MODEL, **spec: Any) -> float:
    """Patch the spec; the time at which that was done."""
    at = time.time()
    kube.kubectl("patch", "mro", name, "-n", namespace, "--type=merge", "-p", json.dumps({"spec": spec}))
    return at


def memory_mebibytes(namespace: str) -> float:
    """Resident memory of the server, as it says itself."""
    (pod,) = kube.items("pods", namespace, f"trimtab.dev/model-rollout={MODEL}")
    name = pod["metadata"]["name"]
    text = kube.kubectl("get", "--raw", f"/api/v1/namespaces/{namespace}/pods/{name}:8000/proxy/metrics")
    found = re.search(r"^process_resident_memory_bytes (\S+)", text, re.MULTILINE)
    assert found is not None
    return float(found[1]) / 2**20


@contextmanager
def watched_weights(namespace: str) -> Iterator[list[tuple[float, str, dict[int, int]]]]:
    """State and confirmed weights, about once a second."""
    seen: list[tuple[float, str, dict[int, int]]] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.7):
            status = status_of(namespace)
            weights = {each["version"]: each["weight"] for each in status.get("weights", [])}
            seen.append((time.time(), status.get("state", ""), weights))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


def print_table(seen: list[tuple[float, str, dict[int, int]]], given: list[Manifest], *, seconds: int = 5) -> None:
    """Weights, versions and answers over time."""
    start = seen[0][0]
    print("\n  time  state        weights               answers by version        mean tokens   failed")
    for begin in range(0, int(seen[-1][0] - start) + seconds, seconds):
        slot = [line for line in given if begin <= line["at"] - start < begin + seconds]
        looks = [look for look in seen if begin <= look[0] - start < begin + seconds]
        counted = Counter(line.get("version", "") for line in slot)
        means = {
            version: sum(line["tokens"] for line in slot if line.get("version") == version) / count
            for version, count in counted.items()
            if version
        }
        weights = " ".join(f"v{version}:{weight}" for version, weight in looks[-1][2].items()) if looks else ""
        told = " ".join(f"{version}:{count}" for version, count in sorted(counted.items()))
        lengths = " ".join(f"{mean:.0f}" for _, mean in sorted(means.items()))
        failed = sum(line["code"] != 200 for line in slot)
        print(f"{begin:5d}s  {looks[-1][1] if looks else '':11s}  {weights:20s}  {told:28s}  {lengths:11s}  {failed}")


def test_promotion_and_rollback_under_load_without_one_failed_request(place: str) -> None:
    kube.apply(rollout(place, strategy={"canary": {"steps": STEPS}}))
    wait(place, "Stable", 1, timeout=240)
    image = trainer_image()
    with steady_load(place, MODEL, image), watched_weights(place) as seen:
        before = memory_mebibytes(place)
        applied = change(place, version=2)
        first = kube.eventually(
            lambda: next((line for line in answers(place) if line.get("version") == "tone-v2"), None),
            what="first answer of the canary",
            timeout=60,
            every=0.3,
        )
        during = memory_mebibytes(place)
        wait(place, "Stable", 2)
        pod_names = {pod["metadata"]["name"] for pod in kube.items("pods", place, f"trimtab.dev/model-rollout={MODEL}")}

        bad = change(place, version=3)
        back = wait(place, "RolledBack")
        wait_for_weights(place, {2: 100})
        after = memory_mebibytes(place)
        time.sleep(3)
        given = answers(place)
    print_table(seen, given)
    print(f"\nfirst answer of the canary {first['at'] - applied:.1f} s after kubectl patch")
    print(
        f"memory of the server: {before:.1f} MiB before, {during:.1f} MiB with the canary, {after:.1f} MiB at the end"
    )
    print(
        f"rolled back {time_of(back['canary']['rollback']['at']) - bad:.0f} s after v3 was asked for: {kube.condition({'status': back}, 'Ready')['message']}"
    )

    assert not [line for line in given if line["code"] != 200]
    versions = Counter(line["version"] for line in given)
    assert set(versions) == {"tone-v1", "tone-v2", "tone-v3"}
    confirmed = [weights for _, _, weights in seen]
    for weights in ({1: 90, 2: 10}, {1: 50, 2: 50}, {2: 100}, {2: 50, 3: 50}):
        assert weights in confirmed, weights
    failed = kube.condition({"status": back}, "Stalled")
    assert (failed["status"], failed["reason"]) == ("True", "AnalysisFailed")
    assert "Metric length of step 3" in failed["message"]
    last = max(line["at"] for line in given if line["version"] == "tone-v3")
    assert last - time_of(back["canary"]["rollback"]["at"]) < 5, "the last answer of v3 came seconds after the verdict"
    assert during - before < 100, "an adapter, not another base model"
    assert {
        pod["metadata"]["name"] for pod in kube.items("pods", place, f"trimtab.dev/model-rollout={MODEL}")
    } == pod_names
    assert [passage["outcome"] for passage in back["history"]] == ["RolledBack", "Promoted", "Promoted"]
    kube.wait_for_event(place, "AnalysisFailed")


def test_actions_by_annotation_before_and_after_a_restart_of_the_operator(place: str) -> None:
    steps = [{"setWeight": 20}, {"pause": {}}, {"setWeight": 60}, {"pause": {}}]
    change(place, version=2, strategy={"canary": {"steps": steps}})
    wait(place, "Stable", 2)
    change(place, version=1)
    wait_for_weights(place, {2: 80, 1: 20})
    before = status_of(place)
    kube.kubectl("delete", "pods", "-n", "trimtab-system", "-l", "app.kubernetes.io/name=trimtab")
    for action, weights in (
        ("promote", {2: 40, 1: 60}),
        ("abort", {2: 100}),
        ("retry", {2: 80, 1: 20}),
        ("promote-full", {1: 100}),
    ):
        kube.kubectl("annotate", "mro", MODEL, "-n", place, f"rollouts.trimtab.dev/action={action}", "--overwrite")
        wait_for_weights(place, weights)
    after = wait(place, "Stable", 1)
    begun = [passage["startedAt"] for passage in after["history"]]
    assert before["canary"]["startedAt"] in begun, "the canary of before the restart went on"


@pytest.mark.parametrize(
    ("wrong", "reason", "right"),
    [
        pytest.param({"version": 99}, "ModelVersionNotFound", {"version": 2}, id="no such version"),
        pytest.param({"version": 5}, "NotVerified", {"version": 2}, id="other bytes than published"),
        pytest.param({"version": 4}, "VersionRefused", {"version": 2}, id="base model is not there"),
        pytest.param(
            {"serving": {"builtin": {"profile": "e2e-no-image"}}},
            "ImagePullFailed",
            {"serving": {"builtin": {"profile": None}}},
            id="image that is not there",
        ),
    ],
)
def test_a_bad_value_and_its_fix(wrong: dict[str, Any], reason: str, right: dict[str, Any], place: str) -> None:
    profile = kube.get("tprof", "cpu-small")
    assert profile is not None
    spec = profile["spec"] | {"default": False, "serverImage": "localhost/no-such-image:1"}
    named = {"apiVersion": "trimtab.dev/v1alpha1", "kind": "TrainingProfile", "metadata": {"name": "e2e-no-image"}}
    kube.apply(named | {"spec": spec})
    kube.apply(rollout(place))
    change(place, version=1, strategy={"canary": {"steps": None}})
    wait(place, "Stable", 1, timeout=240)
    change(place, **wrong)
    kube.eventually(
        lambda: kube.condition({"status": status_of(place)}, "Ready")["reason"] == reason, what=reason, timeout=120
    )
    status = status_of(place)
    assert (status["stableVersion"], kube.condition({"status": status}, "Available")["status"]) == (1, "True")
    fixed = change(place, **right)
    wait(place, "Stable", right.get("version", 1), timeout=60)
    print(f"{reason}: {time.time() - fixed:.1f} s from the fix to Stable")
    kube.kubectl("delete", "tprof", "e2e-no-image")


def test_a_missing_secret_and_deleting_while_it_moves(place: str) -> None:
    """The old servers go first: two at once have little room on a small machine."""
    kube.kubectl("delete", "mro", MODEL, "-n", place, "--ignore-not-found")
    wait_until_gone(place)
    kube.kubectl("delete", "secret", "trimtab-store", "-n", place)
    kube.apply(rollout(place, strategy={"canary": {"steps": [{"setWeight": 30}, {"pause": {}}]}}))
    kube.eventually(
        lambda: kube.condition({"status": status_of(place)}, "Ready")["reason"] == "StorageSecretMissing",
        what="StorageSecretMissing",
        timeout=90,
    )
    fixed = time.time()
    kube.apply(secret(place))
    wait(place, "Stable", 1, timeout=60)
    print(f"StorageSecretMissing: {time.time() - fixed:.1f} s from the fix to Stable")
    change(place, version=2)
    wait_for_weights(place, {1: 70, 2: 30})
    kube.kubectl("delete", "mro", MODEL, "-n", place)
    wait_until_gone(place)


def wait_for_weights(namespace: str, weights: dict[int, int]) -> None:
    def look() -> bool:
        return {each["version"]: each["weight"] for each in status_of(namespace).get("weights", [])} == weights

    kube.eventually(
        look, what=f"weights {weights}; they are {status_of(namespace).get('weights')}", timeout=60, every=0.3
    )


def wait_until_gone(namespace: str) -> None:
    kinds = "deployments,replicasets,pods,services,configmaps,poddisruptionbudgets"
    selector = f"trimtab.dev/model-rollout={MODEL}"
    kube.eventually(
        lambda: not kube.kubectl("get", kinds, "-n", namespace, "-l", selector, "-o", "name").strip(),
        what=f"nothing of a rollout left in {namespace}",
        timeout=120,
    )


def time_of(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def trainer_image() -> str:
    """The image that the operator gives its servers."""
    command = [sys.executable, "-c", "from install import image; print(image('trainer'))"]
    done = subprocess.run(command, cwd=ROOT / "dev" / "demo", check=True, capture_output=True, text=True)
    return done.stdout.strip()
