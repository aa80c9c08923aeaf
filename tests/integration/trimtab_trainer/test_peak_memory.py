"""How much memory a run takes at its peak, in a process of its own, on a model of which weights are the largest part."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.benchmarks.image import REPOSITORY
from tests.support.rows import write_jsonl
from tests.support.tiny_models import write_tiny_llama

MATRICES = 12 * (2 * 768 * 768 + 2 * 256 * 768 + 3 * 768 * 2048)
"""Weights of the matrices that QLoRA has in four bits."""
LENGTH = 32
"""Tokens of a row: activations are a small part."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("files")
    sizes: dict[str, Any] = {
        "hidden_size": 768,
        "intermediate_size": 2048,
        "num_attention_heads": 12,
        "num_key_value_heads": 4,
    }
    write_tiny_llama(root / "model", num_hidden_layers=12, **sizes)
    write_jsonl(root / "train.jsonl", [{"text": 9 * f"number {number} "} for number in range(24)])
    return root


def run_alone(method: str, files: Path) -> dict[str, Any]:
    """What `peak_memory` prints."""
    command = [sys.executable, "-m", "tests.benchmarks.peak_memory", method, str(files / "model"), str(files)]
    done = subprocess.run(
        [*command, str(LENGTH), "float32"],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_qlora_takes_less_than_lora_and_both_what_was_estimated(files: Path) -> None:
    lora, qlora = run_alone("lora", files), run_alone("qlora", files)
    saved = MATRICES * (4 - 0.52)
    # Of the weights' own difference, some is taken back by matrices that are unpacked and packed.
    assert lora["peak"] - qlora["peak"] > 0.7 * saved
    for found in (lora, qlora):
        assert found["peak"] == pytest.approx(found["estimate"], rel=0.15)
