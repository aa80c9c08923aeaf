"""A run whose adapter is folded into its base model."""

from pathlib import Path

import torch
from tests.support.memory_storage import MemoryStorage
from tests.support.training import make_job, run_job
from transformers import AutoModelForCausalLM


def test_a_merged_run_publishes_a_whole_model(storage: MemoryStorage, job_files: Path, tmp_path: Path) -> None:
    ended = run_job(make_job(output={"modelName": "tone", "merge": True}, data={"test": []}), tmp_path / "run")
    assert (ended.code, storage.published.get("format")) == (0, "safetensors"), ended.message.message
    loaded = AutoModelForCausalLM.from_pretrained(storage.published["path"])
    base = AutoModelForCausalLM.from_pretrained(job_files / "models" / "llama")
    moved = [name for name, value in loaded.state_dict().items() if not torch.equal(value, base.state_dict()[name])]
    assert len(moved) == 14  # the seven matrices of each of its two layers
    assert "PeftModel" not in (storage.published["path"] / "README.md").read_text()
