"""Runs of `make bench-few-shot`. Usage: few_shot_runs MODEL DATA EPOCHS RATE LENGTH SEED...      prints a line of JSON a run

DATA has `train-SEED.jsonl` and `test.jsonl`. A step of few-shot learning reads three texts for each example, so plain fine-tuning
runs twice: for as many epochs, and for three times as many, with as many texts through the model. RATE 0 is each one's own default.
"""

import json
import sys
from pathlib import Path

from tests.benchmarks.runs import BASE, completed, store_of
from tests.support.training import make_job

RUNS = {"fewShot": ("fewShot", 1), "plain": ("supervised", 1), "plain, as many texts": ("supervised", 3)}
"""By name: the objective, and how many times the epochs."""


def main() -> None:
    """Every run with every seed."""
    model, data, epochs, rate, length, *seeds = sys.argv[1:]
    for seed in seeds:
        for name, (objective, times) in RUNS.items():
            settings = {"seed": int(seed), "epochs": times * float(epochs), "rate": float(rate), "length": int(length)}
            metrics = run(objective, Path(model), Path(data), **settings)
            found = {"name": name, "seed": int(seed), **metrics}
            print(json.dumps(found), flush=True)


def run(
    objective: str, model: Path, data: Path, *, seed: int, epochs: float, rate: float, length: int
) -> dict[str, float]:
    """Test accuracy before and after."""
    with store_of(model, data) as storage:
        document = make_job(
            model={"uri": BASE},
            task={"sequenceClassification": {}},
            objective={objective: {}},
            data={
                "train": [{"uri": f"s3://data/train-{seed}.jsonl"}],
                "validation": [],
                "test": [{"uri": "s3://data/test.jsonl"}],
                "maxSequenceLength": length,
            },
            method={"full": {}},
        ).to_json()
        document["training"] = {"epochs": epochs, "globalBatchSize": 8, "seed": seed}
        if rate:
            document["training"]["learningRate"] = rate
        document["checkpoints"] = {"everySteps": None}
        end = completed(document, storage)
        metrics = storage.published["metrics"]
        return {
            "before": metrics["baseline_test_accuracy"],
            "after": metrics["test_accuracy"],
            "seconds": end.attempt.seconds["training"],
        }


if __name__ == "__main__":
    main()
