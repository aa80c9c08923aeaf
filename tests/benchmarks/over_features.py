"""One run of `make bench-features`. Usage: over_features TASK MODEL DATA EPOCHS METHOD RATE      prints JSON"""

import json
import sys
from pathlib import Path

from tests.benchmarks.runs import BASE, completed, store_of
from tests.support.training import make_job


def main() -> None:
    """Seconds of training, seconds of computing features, all losses."""
    task, model, data, epochs, method, rate = sys.argv[1:]
    with store_of(Path(model), Path(data)) as storage:
        document = make_job(
            model={"uri": BASE},
            task={task: {}},
            data={
                **{split: [{"uri": f"s3://data/{split}.jsonl"}] for split in ("train", "validation", "test")},
                "maxSequenceLength": 256,
                "packing": False,
            },
            method=json.loads(method),
        ).to_json()
        steps = -(-len(Path(data, "train.jsonl").read_text("utf-8").splitlines()) // 16)
        document["training"] = {"epochs": float(epochs), "learningRate": float(rate), "evaluateEverySteps": steps}
        document["checkpoints"] = {"everySteps": steps}
        seconds = completed(document, storage).attempt.seconds
        losses = [line["loss"] for line in storage.history if "loss" in line]
    print(
        json.dumps(
            {"training": seconds["training"], "features": seconds.get("computing features", 0.0), "losses": losses}
        )
    )


if __name__ == "__main__":
    main()
