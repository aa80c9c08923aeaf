"""The step in which each layer begins to move, in a whole run."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load
from tests.support.memory_storage import MemoryStorage
from tests.support.training import make_job, run_job
from transformers import AutoModelForCausalLM


def test_unfreezing_happens_at_exactly_its_step(storage: MemoryStorage, job_files: Path, tmp_path: Path) -> None:
    """Every byte of a layer stays what it was until its step, and so do its moments; then it takes a first Adam step."""
    settings = {
        "gradualUnfreezing": {"everySteps": 2},
        "weightDecay": 0.1,
        "schedule": {"constant": {"warmupRatio": 0}},
    }
    config = make_job(
        method={"full": {}}, training=settings, checkpoints={"everySteps": 1}, data={"validation": [], "test": []}
    )
    assert run_job(config, tmp_path / "run").code == 0
    base = AutoModelForCausalLM.from_pretrained(job_files / "models" / "llama").state_dict()
    saved = {step: load(data) for step, (_, data) in storage.checkpoints.items()}
    starts = {
        "model.norm.weight": 0,
        "model.layers.1.mlp.up_proj.weight": 0,
        "model.layers.0.mlp.up_proj.weight": 2,
        "model.embed_tokens.weight": 4,
    }
    for name, start in starts.items():
        for step, tensors in saved.items():
            is_frozen = step <= start
            assert torch.equal(tensors[f"weights/{name}"], base[name]) == is_frozen, (name, step)
            assert bool((tensors[f"exp_avg_sq/{name}"] == 0).all()) == is_frozen
        # Adam's first step moves every weight that has a gradient by the learning rate: its bias correction starts at 1.
        first = (saved[start + 1][f"weights/{name}"] - base[name] * (1 - 0.01 * 0.1 * (base[name].ndim > 1))).abs()
        assert float(first.max()) == pytest.approx(0.01, rel=1e-2)
