"""Fine-tuning by Trimtab's trainer with its own defaults. Usage: ours TASK MODEL DATA OUTPUT EPOCHS SEED METHOD"""

import shutil
import sys
import tempfile
from pathlib import Path

import pytest
from tests.support.training import MemoryStorage, make_job, run_job

from trimtab_trainer.contract.exit_codes import ExitCode


def main() -> None:
    """Train and save what would be published."""
    task, model, data, output, epochs, seed, method = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        root = Path(folder)
        (root / "data").symlink_to(data)
        (root / "models").mkdir()
        (root / "models" / "base").symlink_to(model)
        MemoryStorage(root).install(patch)
        base = make_job(
            model={"uri": "s3://models/base"},
            task={task: {}},
            data={
                **{split: [{"uri": f"s3://data/{split}.jsonl"}] for split in ("train", "validation", "test")},
                "maxSequenceLength": 256,
            },
            method={method: {}},
        ).to_json()
        base["training"] = {"epochs": float(epochs), "seed": int(seed)}
        base["checkpoints"] = {"everySteps": 20}
        config = type(make_job()).model_validate(base)
        end = run_job(config, root / "scratch")
        if end.code != ExitCode.SUCCEEDED:
            raise SystemExit(end.message.message)
        shutil.copytree(root / "published", output, dirs_exist_ok=True)


if __name__ == "__main__":
    main()
