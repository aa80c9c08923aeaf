"""What is measured besides the validation split: test and general data, before and after training, and the gates' numbers."""

import math
from collections.abc import Mapping, Sequence

from trimtab_trainer.attempt import Attempt
from trimtab_trainer.contract.gates import PREFIXES, Gate, GateMeasurement
from trimtab_trainer.data.splits import Split
from trimtab_trainer.evaluate import evaluate
from trimtab_trainer.model import TrainableModel
from trimtab_trainer.practices.adversarial import Attack
from trimtab_trainer.prepare import Prepared
from trimtab_trainer.tasks.task import Task

HELD_OUT = ("test", "general")


def measure_held_out(attempt: Attempt, prepared: Prepared) -> dict[str, float]:
    """Metrics of the test and the general split, by `test_*` and `general_*`; of an absent one none. All ranks take part."""
    splits = {name: prepared.splits[name] for name in HELD_OUT}
    tokens = prepared.micro_batch_size * attempt.config.data.max_sequence_length
    return measure_splits(
        attempt, prepared.model, prepared.task, splits, tokens_per_batch=tokens, attack=prepared.attack
    )


def measure_splits(
    attempt: Attempt,
    model: TrainableModel,
    task: Task,
    splits: Mapping[str, Split],
    *,
    tokens_per_batch: int,
    attack: Attack | None = None,
) -> dict[str, float]:
    """Metrics of each split that has examples, with the split's prefix. All ranks take part.

    Raises:
        Interruption: SIGTERM came.
    """
    metrics: dict[str, float] = {}
    for name, split in splits.items():
        if not split.encoded:
            continue
        found = evaluate(
            model,
            task,
            split,
            world=attempt.world,
            tokens_per_batch=tokens_per_batch,
            stop=lambda: attempt.stop.requested,
            attack=attack,
        )
        metrics |= {f"{prefix_of(name)}{metric}": value for metric, value in found.items()}
    return metrics


def prefix_of(split: str) -> str:
    """`test_` for test, `eval_` for validation."""
    return {str(source): prefix for source, prefix in PREFIXES.items()}[split]


def gate_measurements(
    gates: Sequence[Gate],
    *,
    result: Mapping[str, float],
    baseline: Mapping[str, float],
    champion: Mapping[str, float],
) -> list[GateMeasurement]:
    """The numbers of each gate, in their order; what was not measured, or is not finite, is absent."""

    def value(metrics: Mapping[str, float], gate: Gate) -> str | None:
        found = metrics.get(PREFIXES[gate.source] + gate.plain_metric, math.nan)
        return repr(float(found)) if math.isfinite(found) else None

    return [
        GateMeasurement(result=value(result, gate), baseline=value(baseline, gate), champion=value(champion, gate))
        for gate in gates
    ]
