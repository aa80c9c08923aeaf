"""A rollout on vLLM in real pods: router and a stand-in for vLLM beside it, under load. What only a GPU can show is not here."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.test_rollout import ANALYSIS, MODEL, change, rollout, status_of, trainer_image, wait
from tests.support import kube
from tests.support.imports import imported_version
from tests.support.jobs import fresh_namespace
from tests.support.kube import Manifest
from tests.support.load import answers, steady_load
from tests.support.store import Bucket

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[2]
SERVERS = f"trimtab.dev/model-rollout={MODEL}"
STEPS = [{"setWeight": 50}, {"analysis": ANALYSIS}]


@pytest.fixture(scope="module")
def image(platform: None) -> str:
    """Of the stand-in for vLLM."""
    given = os.environ.get("TRIMTAB_VLLM_STAND_IN_IMAGE")
    if given:
        return given
    command = [sys.executable, str(ROOT / "dev" / "local" / "main.py"), "vllm-stand-in"]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-1]


@pytest.fixture(scope="module")
def place(bucket: Bucket, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A namespace with two good adapters, and one whose rank is too large."""
    namespace = "e2e-vllm"
    with fresh_namespace(namespace, bucket):
        for number, rank in ((1, 8), (2, 16), (3, 512)):
            folder = adapter(tmp_path_factory.mktemp(f"v{number}"), rank)
            kube.apply(imported_version(namespace, bucket, MODEL, number, folder))
        yield namespace


def adapter(folder: Path, rank: int) -> Path:
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": rank}))
    (folder / "adapter_model.safetensors").write_bytes(b"\x02\x00\x00\x00\x00\x00\x00\x00{}")
    return folder


def on_vllm(namespace: str, image: str) -> Manifest:
    resources = {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}}
    vllm = {"image": image, "accelerators": 0, "resources": resources, "routerResources": resources}
    return rollout(namespace, serving={"vllm": vllm}, strategy={"canary": {"steps": STEPS}})


def test_a_canary_a_refusal_and_the_end(place: str, image: str) -> None:
    started = time.time()
    kube.apply(on_vllm(place, image))
    wait(place, "Stable", 1, timeout=240)
    print(f"first version after {time.time() - started:.0f} s")
    pods = {pod["metadata"]["name"] for pod in kube.items("pods", place, SERVERS)}
    with steady_load(place, MODEL, trainer_image()):
        change(place, version=2)
        wait(place, "Stable", 2)
        change(place, version=3)
        refused = wait(place, "Degraded")
        message = kube.condition({"status": refused}, "Ready")["message"]
        assert "LoRA rank 512 is greater than max_lora_rank 64" in message
        change(place, version=1)
        wait(place, "Stable", 1)
        given = answers(place)
    assert not [line for line in given if line["code"] != 200]
    print(Counter(line["version"] for line in given))
    assert set(Counter(line["version"] for line in given)) == {"tone-v1", "tone-v2"}
    assert {pod["metadata"]["name"] for pod in kube.items("pods", place, SERVERS)} == pods, (
        "traffic moved without a new pod"
    )
    assert [each["outcome"] for each in status_of(place)["history"]].count("Promoted") == 3

    ending = time.time()
    kube.kubectl("delete", "mro", MODEL, "-n", place)
    kube.eventually(lambda: not kube.items("pods", place, SERVERS), what="no pod is left", timeout=60)
    print(f"the pods were gone after {time.time() - ending:.0f} s")
