"""However a global batch is cut into micro batches, the same steps are taken: whole runs, of every objective that has given examples."""

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load
from tests.support.memory_storage import MemoryStorage
from tests.support.training import make_job, run_job
from torch.testing import assert_close

from trimtab_trainer.contract.exit_codes import ExitCode


def on(data: str, *, model: str = "bert", **changes: Any) -> dict[str, Any]:
    files = {split: [{"uri": f"s3://data/{split}-{data}.jsonl"}] for split in ("train", "validation", "test")}
    return {"model": {"uri": f"s3://models/{model}"}, "data": {**files, "maxSequenceLength": 64}, **changes}


LLAMA = "llama-no-dropout"
PLAIN: dict[str, Any] = {"model": {"uri": f"s3://models/{LLAMA}"}}
RUNS = [
    pytest.param(PLAIN, id="conversations, packed"),
    pytest.param({**PLAIN, "data": {"packing": False}}, id="conversations, a row each"),
    pytest.param(on("raw", model=LLAMA, objective={"continuedPretraining": {}}), id="raw documents"),
    pytest.param(
        on("labelled", task={"sequenceClassification": {}}, training={"classWeights": {"byLabel": {"no": 3, "yes": 1}}}),
        id="labels of unequal weight",
    ),
    pytest.param(on("multi-labelled", task={"sequenceClassification": {"multiLabel": True}}), id="several labels"),
    pytest.param(on("tagged", task={"tokenClassification": {}}), id="tags"),
    pytest.param(on("questions", task={"questionAnswering": {"stride": 16}}), id="questions over windows"),
    pytest.param(
        on("preferences", model=LLAMA, task={"sequenceClassification": {}}, objective={"reward": {"centering": 0.01}}),
        id="reward model",
    ),
    pytest.param(on("preferences", model=LLAMA, objective={"dpo": {}}), id="DPO"),
    pytest.param(on("preferences", model=LLAMA, objective={"orpo": {}}), id="ORPO"),
    pytest.param(on("labelled", task={"sequenceClassification": {}}, objective={"fewShot": {}}), id="few-shot"),
]  # fmt: skip


@pytest.mark.parametrize("changes", RUNS)
def test_micro_batches_change_nothing_but_memory(
    changes: dict[str, Any], storage: MemoryStorage, tmp_path: Path
) -> None:
    ends = {}
    for size in (4, 2, 1):
        storage.checkpoints.clear()
        training = {"dropout": 0.0, **changes.get("training", {})} if "bert" in str(changes["model"]) else {}
        config = make_job(
            **{
                **changes,
                "method": {"full": {}},
                "training": {**training, "microBatchSize": size, "learningRate": 1e-3, "maxSteps": 3},
                "checkpoints": {"everySteps": 3},
            }
        )
        ended = run_job(config, tmp_path / f"run-{size}")
        assert ended.code == ExitCode.SUCCEEDED, ended.message.message
        ends[size] = (storage.history, load(storage.checkpoints[3][1]))
    history, whole = ends[4]
    for size in (2, 1):
        found_history, found = ends[size]
        for line, expected in zip(found_history, history, strict=True):
            assert line == pytest.approx(expected, rel=2e-4, abs=1e-5), size
        for name, tensor in whole.items():
            if name.startswith("exp_avg/"):  # the sum of the gradients, before Adam makes signs of it
                assert_close(found[name], tensor, rtol=1e-3, atol=1e-6, msg=f"{size}: {name}")
