"""What is measured besides the validation split: test and general data, before and after training, and the gates' numbers."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from trimtab_trainer.attempt import Attempt
from trimtab_trainer.contract.data_checks import CONTINUAL
from trimtab_trainer.contract.gates import PREFIXES, Gate, GateMeasurement
from trimtab_trainer.data.splits import Split
from trimtab_trainer.evaluate import evaluate
from trimtab_trainer.fetch.published import PublishedFiles
from trimtab_trainer.model import TrainableModel
from trimtab_trainer.practices.adversarial import Attack
from trimtab_trainer.prepare import Prepared, make_attack
from trimtab_trainer.published_model import load_published, release
from trimtab_trainer.slices import measure_data_sets, measure_slices
from trimtab_trainer.tasks.task import Task
from trimtab_trainer.world import World

HELD_OUT = ("test", "general")


def measure_held_out(attempt: Attempt, prepared: Prepared) -> dict[str, float]:
    """Metrics of the test and the general split, by `test_*` and `general_*`; of an absent one none. All ranks take part."""
    splits = {str(name): prepared.splits[name] for name in HELD_OUT}
    tokens = prepared.micro_batch_size * attempt.config.data.max_sequence_length
    found = measure_splits(
        attempt, prepared.model, prepared.task, splits, tokens_per_batch=tokens, attack=prepared.attack
    )
    validation = prepared.splits["validation"]
    if attempt.config.data.slices is not None and validation.encoded:  # as a whole it is measured while training
        measure = partial(
            evaluate,
            prepared.model,
            prepared.task,
            world=attempt.world,
            tokens_per_batch=tokens,
            stop=lambda: attempt.stop.requested,
        )
        by_group = measure_slices(attempt.config.data.slices, validation, measure)
        found |= {f"{PREFIXES['validation']}{name}": value for name, value in by_group.items()}
    return found


def measure_splits(  # noqa: PLR0913 - one measurement, wholly described
    attempt: Attempt,
    model: TrainableModel,
    task: Task,
    splits: Mapping[str, Split],
    *,
    tokens_per_batch: int,
    attack: Attack | None = None,
    world: World | None = None,
) -> dict[str, float]:
    """Metrics of each split that has examples, with the split's prefix. All ranks take part; those of `world`, where it is given.

    Raises:
        Interruption: SIGTERM came.
    """
    metrics: dict[str, float] = {}
    for name, split in splits.items():
        if not split.encoded:
            continue
        measure = partial(
            evaluate,
            model,
            task,
            world=world or attempt.world,
            tokens_per_batch=tokens_per_batch,
            stop=lambda: attempt.stop.requested,
        )
        found = measure(split, attack=attack)
        found |= measure_data_sets(split, found, measure)
        if attempt.config.data.slices is not None:
            found |= measure_slices(attempt.config.data.slices, split, measure)
        metrics |= {f"{prefix_of(name)}{metric}": value for metric, value in found.items()}
    return metrics


def measure_exported(attempt: Attempt, prepared: Prepared, directory: Path) -> dict[str, float]:
    """Metrics of every measured split, by the model as its users will load it. The main process alone."""
    model, config = prepared.model, attempt.config
    splits = {str(name): prepared.splits[name] for name in PREFIXES if prepared.splits[name].encoded}
    files = PublishedFiles(directory, None, model.labels)
    loaded = load_published(
        config, files, splits, device=model.device, precision=model.precision, scorer=prepared.scorer
    )
    try:
        return measure_splits(
            attempt,
            loaded.model,
            loaded.task,
            loaded.splits,
            tokens_per_batch=prepared.micro_batch_size * config.data.max_sequence_length,
            attack=make_attack(config, loaded.model) if config.training.adversarial else None,
            world=World(),
        )
    finally:
        del loaded
        release(model.device)


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
        of_split = "" if gate.plain_metric.startswith(CONTINUAL) else PREFIXES[gate.source]
        found = metrics.get(of_split + gate.plain_metric, math.nan)
        return repr(float(found)) if math.isfinite(found) else None

    return [
        GateMeasurement(result=value(result, gate), baseline=value(baseline, gate), champion=value(champion, gate))
        for gate in gates
    ]
