"""Every method with all practices that composition allows: none of them crashes, and what cannot be is refused with its reason."""

from pathlib import Path
from typing import Any

import pytest
from tests.support.memory_storage import MemoryStorage
from tests.support.training import make_job, run_job

from trimtab_trainer.contract.exit_codes import ExitCode

PRACTICES: dict[str, Any] = {
    "maxSteps": 2,
    "dropout": 0.1,
    "labelSmoothing": 0.1,
    "embeddingNoiseAlpha": 5,
    "exponentialMovingAverage": {},
    "divergence": {"onSpike": "Skip", "spikeFactor": 5},
    "adversarial": {"pgd": {"steps": 2}},
    "continual": {"ewc": {"examples": 2}},
}
METHODS: list[dict[str, Any]] = [
    {"full": {}},
    {"lora": {"r": 2, "useDora": True}},
    {"partial": {"lastLayers": 1}},
    {"adapter": {"bottleneckSize": 4}},
    {"prefixTuning": {"virtualTokens": 3}},
    {"prefixTuning": {"kind": "prompt", "virtualTokens": 3}},
    {"reft": {"r": 2}},
]


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_all_practices_compose_with(method: dict[str, Any], storage: MemoryStorage, tmp_path: Path) -> None:
    data: dict[str, Any] = {
        "general": [{"uri": "s3://data/train.jsonl"}],
        "mixFraction": 0.3,
        "validation": [],
        "test": [],
        "packing": "prefixTuning" not in method,
    }
    ended = run_job(make_job(method=method, data=data, training=PRACTICES), tmp_path / "run")
    assert ended.code == ExitCode.SUCCEEDED, ended.message.message
    assert "general_adversarial_loss" in storage.published["metrics"]


@pytest.mark.parametrize("name", ["dropout", "embeddingNoiseAlpha", "adversarial"])
def test_what_a_trunk_without_training_cannot_have_is_refused(
    name: str, storage: MemoryStorage, tmp_path: Path
) -> None:
    training = {"maxSteps": 2, name: PRACTICES[name]}
    ended = run_job(make_job(method={"headOnly": {}}, training=training), tmp_path / "run")
    assert ended.code == ExitCode.CONFIG_INVALID
    assert f"`training.{name}`" in ended.message.message
