"""A run's peak memory, of `make bench-memory`. Usage: peak_memory METHOD MODEL DATA LENGTH PRECISION      prints JSON

Counted is the process's resident set at its largest, as the kernel has it: its own memory, and pages of mapped files while
they are in. What the kernel keeps of files that were only read is not part of it.
"""

import json
import sys
from pathlib import Path

from tests.benchmarks.runs import BASE, completed, store_of
from tests.support.training import make_job

from trimtab_trainer.memory import estimate_memory, tokens_of_row
from trimtab_trainer.model_facts import read_model_facts

STEPS = 3


def main() -> None:
    """Three steps of one method, each on one micro batch of eight rows."""
    method, model, data, length, precision = sys.argv[1:]
    imported = _resident("VmRSS")
    with store_of(Path(model), Path(data)) as storage:
        config = make_job(
            model={"uri": BASE},
            data={
                "train": [{"uri": "s3://data/train.jsonl"}],
                "validation": [],
                "test": [],
                "maxSequenceLength": int(length),
            },
            method={method: {"r": 16}},
            training={"maxSteps": STEPS, "globalBatchSize": 8, "microBatchSize": 8, "precision": precision},
            checkpoints={"everySteps": STEPS},
        )
        completed(config.to_json(), storage)
        estimate = estimate_memory(
            config,
            read_model_facts(Path(model)),
            tokens=8 * tokens_of_row(config),
            bytes_per_value=4 if precision == "float32" else 2,
        )
        losses = [line["loss"] for line in storage.history if "loss" in line]
    print(json.dumps({"peak": _resident("VmHWM"), "imported": imported, "estimate": estimate.total, "losses": losses}))


def _resident(field: str) -> int:
    """Bytes, from what the kernel counts of this process."""
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    [kibibytes] = (line.split()[1] for line in lines if line.startswith(f"{field}:"))
    return 1024 * int(kibibytes)


if __name__ == "__main__":
    main()
