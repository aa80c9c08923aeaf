"""Fine-tuning by Trimtab's trainer with its own defaults. Usage: ours TASK MODEL DATA OUTPUT EPOCHS SEED METHOD"""

import shutil
import sys
from pathlib import Path

from tests.benchmarks.runs import BASE, completed, store_of
from tests.support.training import make_job


def main() -> None:
    """Train and save what would be published."""
    task, model, data, output, epochs, seed, method = sys.argv[1:]
    with store_of(Path(model), Path(data)) as storage:
        base = make_job(
            model={"uri": BASE},
            task={task: {}},
            data={
                **{split: [{"uri": f"s3://data/{split}.jsonl"}] for split in ("train", "validation", "test")},
                "maxSequenceLength": 256,
            },
            method={method: {}},
        ).to_json()
        base["training"] = {"epochs": float(epochs), "seed": int(seed)}
        base["checkpoints"] = {"everySteps": 20}
        completed(base, storage)
        shutil.copytree(storage.root / "published", output, dirs_exist_ok=True)


if __name__ == "__main__":
    main()
