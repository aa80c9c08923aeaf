"""One LoRA run of Trimtab's trainer: the whole program, with a store in memory."""

import argparse
import shutil
import tempfile
from pathlib import Path

import pytest
from tests.benchmarks.training.measure import Result, peak_memory_mib, save_result, settings
from tests.support.memory_storage import MemoryStorage
from tests.support.training import make_job, run_job

from trimtab_trainer.contract.exit_codes import ExitCode


def main() -> None:
    """Train, and write what was measured."""
    options = settings(argparse.ArgumentParser(description=__doc__)).parse_args()
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        root = Path(folder)
        (root / "data").symlink_to(options.data)
        (root / "models").mkdir()
        (root / "models" / "base").symlink_to(options.model)
        storage = MemoryStorage(root)
        storage.install(patch)
        config = make_job(
            model={"uri": "s3://models/base"},
            data={
                "train": [{"uri": "s3://data/train.jsonl"}],
                "validation": [],
                "test": [],
                "maxSequenceLength": options.length,
                "packing": False,
            },
            method={"lora": {"r": options.rank, "alpha": 2 * options.rank}},
            training={
                "maxSteps": options.steps,
                "globalBatchSize": options.batch,
                "learningRate": options.rate,
                "seed": options.seed,
                "schedule": {"linear": {"warmupRatio": 0}},
                "precision": "auto" if options.mode == "auto" else "float32",
                "extraArguments": {"logEverySteps": 1},
            },
            checkpoints={"everySteps": options.steps},
        )
        end = run_job(config, root / "scratch")
        if end.code != ExitCode.SUCCEEDED:
            raise SystemExit(end.message.message)
        lines = [line for line in storage.history if "tokens" in line]
        shutil.copytree(root / "published", options.adapter, dirs_exist_ok=True)
        save_result(
            options,
            Result(
                tokens=int(lines[-1]["tokens"]),
                seconds=end.attempt.stepping_seconds,
                peak_memory_mib=peak_memory_mib(),
            ),
        )


if __name__ == "__main__":
    main()
