"""Gradients are clipped by the norm of all of them together: Adam's first moment after one step shows what reached it."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load
from tests.support.memory_storage import MemoryStorage
from tests.support.training import make_job, run_job


@pytest.mark.parametrize("limit", [0.01, 1e6])
@pytest.mark.parametrize("micro_batch_size", [4, 1])
def test_the_norm_of_all_gradients_is_limited(
    micro_batch_size: int, limit: float, storage: MemoryStorage, tmp_path: Path
) -> None:
    training = {"maxSteps": 1, "maxGradientNorm": limit, "microBatchSize": micro_batch_size}
    config = make_job(method={"full": {}}, training=training, data={"validation": [], "test": []})
    assert run_job(config, tmp_path / "run").code == 0
    (line,) = [line for line in storage.history if "gradient_norm" in line]
    assert 0.1 < line["gradient_norm"] < 100  # as it was before clipping
    tensors = load(storage.checkpoints[1][1])
    moments = torch.cat([tensor.flatten() for name, tensor in tensors.items() if name.startswith("exp_avg/")])
    assert float(moments.norm()) == pytest.approx(0.1 * min(limit, line["gradient_norm"]), rel=1e-4)
