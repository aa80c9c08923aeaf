"""A headOnly run of `make bench-features`. Usage: heads TASK MODEL DATA EPOCHS CACHED      prints JSON"""

import json
import sys
import tempfile
from pathlib import Path

import pytest
from tests.support.training import MemoryStorage, make_job, run_job

from trimtab_trainer.contract.exit_codes import ExitCode


def main() -> None:
    """Seconds of training, seconds of computing features, all losses."""
    task, model, data, epochs, cached = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        root = Path(folder)
        (root / "data").symlink_to(data)
        (root / "models").mkdir()
        (root / "models" / "base").symlink_to(model)
        storage = MemoryStorage(root)
        storage.install(patch)
        steps = -(-len(Path(data, "train.jsonl").read_text("utf-8").splitlines()) // 16)
        document = make_job(
            model={"uri": "s3://models/base"},
            task={task: {}},
            data={
                **{split: [{"uri": f"s3://data/{split}.jsonl"}] for split in ("train", "validation", "test")},
                "maxSequenceLength": 256,
            },
            method={"headOnly": {"cacheFeatures": cached == "true"}},
        ).to_json()
        document["training"] = {"epochs": float(epochs), "learningRate": 0.005, "evaluateEverySteps": steps}
        document["checkpoints"] = {"everySteps": steps}
        end = run_job(type(make_job()).model_validate(document), root / "scratch")
        if end.code != ExitCode.SUCCEEDED:
            raise SystemExit(end.message.message)
        seconds = end.attempt.seconds
        losses = [line["loss"] for line in storage.history if "loss" in line]
    print(
        json.dumps(
            {"training": seconds["training"], "features": seconds.get("computing features", 0.0), "losses": losses}
        )
    )


if __name__ == "__main__":
    main()
