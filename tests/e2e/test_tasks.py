"""A task on images, from its job to an answer, and to the next version by a canary."""

import base64
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
import requests
from tests.e2e.test_chain import forwarded, rollout, wait_for_rollout
from tests.support import kube
from tests.support.jobs import fine_tune_job, wait_for_state
from tests.support.store import Bucket

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[2]
ASSETS = "s3://trimtab/assets"
DIGITS = {"zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"}
ONE = ["00034000", "00344000", "03444000", "00044000", "00044000", "00044000", "00044000", "00444400"]
"""A handwritten one, in five shades."""


def picture(rows: list[str]) -> str:
    """A PNG file in base64; this environment has no Pillow."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", len(rows[0]), len(rows), 8, 0, 0, 0, 0)
    pixels = b"".join(b"\0" + bytes(63 * int(shade) for shade in row) for row in rows)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + parts).decode()


def job(namespace: str, name: str, seed: int) -> kube.Manifest:
    """A hundred steps of a small vision transformer."""
    manifest = fine_tune_job(namespace, name)
    spec: dict[str, Any] = manifest["spec"]
    spec |= {
        "model": {"uri": f"{ASSETS}/models/tiny-vit"},
        "task": {"imageClassification": {}},
        "method": {"full": {}},
        "data": {split: [{"uri": f"{ASSETS}/data/digits/{split}.parquet"}] for split in ("train", "validation")}
        | {"maxSequenceLength": 32},
        "training": {"maxSteps": 100, "globalBatchSize": 32, "learningRate": 0.002, "seed": seed},
        "checkpoints": {"everySteps": 50},
        "output": {"modelName": "digits"},
    }
    return manifest


def test_pictures_are_labelled_by_one_version_and_then_by_the_next(namespace: str, bucket: Bucket) -> None:
    del bucket
    subprocess.run([sys.executable, str(ROOT / "dev" / "demo" / "upload.py"), "tiny-vit", "digits"], check=True)
    kube.apply(job(namespace, "digits", 1), rollout(namespace, "digits"))
    wait_for_state(namespace, "digits", "Complete")
    kube.apply(job(namespace, "digits-again", 2))
    wait_for_rollout(namespace, "digits", 1)
    body = {"model": "digits", "inputs": picture(ONE), "parameters": {"top_k": 3}}
    with forwarded(namespace, "digits") as url:
        answer = requests.post(f"{url}/v1/image-classification", json=body, timeout=60)
        assert answer.status_code == 200, answer.text
        found = answer.json()
        assert len(found) == 3
        assert {one["label"] for one in found} <= DIGITS
        assert sorted(found, key=lambda one: -one["score"]) == found
        print("digits-v1 says", found)
        assert answer.headers["x-trimtab-version"] == "digits-v1"
        metrics = requests.get(f"{url}/metrics", timeout=60).text
        assert (
            'trimtab_server_requests_total{code="200",endpoint="image-classification",version="digits-v1"} 1.0'
            in metrics
        )
        wait_for_state(namespace, "digits-again", "Complete")
        kube.apply(rollout(namespace, "digits", version=2))
        wait_for_rollout(namespace, "digits", 2)
        answer = requests.post(f"{url}/v1/image-classification", json=body, timeout=60)
        assert (answer.status_code, answer.headers["x-trimtab-version"]) == (200, "digits-v2"), answer.text
        print("digits-v2 says", answer.json())
