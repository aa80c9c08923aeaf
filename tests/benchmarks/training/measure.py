"""What every competitor is told and what it answers."""

import argparse
import json
import resource
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Result:
    """One run."""

    tokens: int
    """Tokens of examples that were trained on, without padding."""
    seconds: float
    """In training steps; loading, tokenising and saving are not counted."""
    peak_memory_mib: float


def settings(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The same run for everybody."""
    parser.add_argument("mode")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--adapter", type=Path, required=True, help="folder for the trained adapter")
    parser.add_argument("--result", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--seed", type=int, default=42, help="of the examples' order and of the new weights")
    parser.add_argument("--rate", type=float, default=5e-4)
    return parser


def save_result(options: argparse.Namespace, result: Result) -> None:
    """For the orchestrator, beside the adapter."""
    options.result.write_text(json.dumps(asdict(result)))


def peak_memory_mib() -> float:
    """Of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
