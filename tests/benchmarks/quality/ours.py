"""Fine-tuning by Trimtab's trainer with its own defaults. Usage: ours TASK MODEL DATA OUTPUT EPOCHS LENGTH SEEDS METHOD...

What is published lies in `OUTPUT/<method>-<seed>`. SEEDS are separated by commas.
"""

import shutil
import sys
from pathlib import Path

from tests.benchmarks.runs import BASE, completed, store_of
from tests.support.training import make_job


def main() -> None:
    """Every method with every seed."""
    task, model, data, output, epochs, length, seeds, *methods = sys.argv[1:]
    for method in methods:
        for seed in seeds.split(","):
            training = {"epochs": float(epochs), "seed": int(seed)}
            run(task, method, training, Path(model), Path(data), length=int(length), output=f"{output}/{method}-{seed}")


def run(
    task: str, method: str, training: dict[str, float], model: Path, data: Path, *, length: int, output: str
) -> None:
    """Train and save what would be published."""
    with store_of(model, data) as storage:
        base = make_job(
            model={"uri": BASE},
            task={task: {}},
            data={
                **{split: [{"uri": f"s3://data/{split}.jsonl"}] for split in ("train", "validation")},
                "test": [],
                "maxSequenceLength": length,
            },
            method={method: {}},
        ).to_json()
        base["training"] = training
        base["checkpoints"] = {"everySteps": 20}
        completed(base, storage)
        shutil.copytree(storage.root / "published", output, dirs_exist_ok=True)


if __name__ == "__main__":
    main()
