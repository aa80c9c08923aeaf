"""One run of `make bench-forgetting`. Usage: forgetting_runs MODEL DATA TRAINING DATA_FIELDS      prints a line of JSON

DATA has `train.jsonl` and `test.jsonl` (what is learned) and `general.jsonl` (what must not be forgotten). The last two are JSON:
`spec.training`, and what `spec.data` has beside these files.
"""

import json
import sys
from pathlib import Path

from tests.benchmarks.runs import BASE, completed, store_of
from tests.support.training import make_job

MEASURED = ("baseline_general_loss", "general_loss", "baseline_test_loss", "test_loss")


def main() -> None:
    """The run."""
    model, data, training, data_fields = sys.argv[1:]
    with store_of(Path(model), Path(data)) as storage:
        document = make_job(
            model={"uri": BASE},
            task={"causalLanguageModeling": {}},
            method={"full": {}},
            data={
                "train": [{"uri": "s3://data/train.jsonl", "format": "promptCompletion"}],
                "validation": [],
                "test": [{"uri": "s3://data/test.jsonl", "format": "promptCompletion"}],
                "general": [{"uri": "s3://data/general.jsonl", "format": "text", "name": "passages"}],
                **json.loads(data_fields),
            },
        ).to_json()
        document["training"] = json.loads(training)
        document["checkpoints"] = {"everySteps": None}
        completed(document, storage)
        print(json.dumps({name: storage.published["metrics"][name] for name in MEASURED}), flush=True)


if __name__ == "__main__":
    main()
