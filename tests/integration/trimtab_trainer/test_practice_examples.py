"""The examples of training practices run as they stand, on tiny models and data."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.memory_storage import MemoryStorage
from tests.support.training import make_job, run_job

from trimtab_trainer.contract.exit_codes import ExitCode

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.mark.parametrize(
    ("name", "model", "ending", "expected"),
    [
        pytest.param("06-training-practices", "bert", "-labelled", "eval_adversarial_accuracy", id="everything on"),
        pytest.param("07-learn-without-forgetting", "llama", "", "general_perplexity", id="continual learning"),
    ],
)
def test_the_example_runs(
    name: str, model: str, ending: str, expected: str, storage: MemoryStorage, tmp_path: Path
) -> None:
    spec: dict[str, Any] = yaml.safe_load((EXAMPLES / f"{name}.yaml").read_text())["spec"]
    data = {**spec["data"], "maxSequenceLength": 64}
    for split in ("train", "validation", "general"):
        if split in data:
            file = "train" if split == "general" else split
            data[split] = [{"uri": f"s3://data/{file}{ending}.jsonl"}]
    training = {**spec["training"], "maxSteps": 5, "evaluateEverySteps": 2}
    config = make_job(
        model={"uri": f"s3://models/{model}"},
        task=spec["task"],
        method=spec["method"],
        data={"test": [], **data},
        training=training,
    )
    ended = run_job(config, tmp_path / "run")
    assert ended.code == ExitCode.SUCCEEDED, ended.message.message
    assert expected in storage.published["metrics"]
    assert f"baseline_{expected}" in storage.published["metrics"]
