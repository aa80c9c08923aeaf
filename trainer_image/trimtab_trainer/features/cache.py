"""Whether a run computes the features of its frozen part once, and their computation before the first step."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trimtab_trainer import logs
from trimtab_trainer.attempt import Attempt
from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.data.batches import micro_batches
from trimtab_trainer.distributed import sum_over_ranks
from trimtab_trainer.features.cached_task import CachedTask
from trimtab_trainer.features.layout import Part, Positions, parts_read
from trimtab_trainer.features.table import FeatureTable
from trimtab_trainer.features.trunk import FrozenTrunk, frozen_trunk
from trimtab_trainer.interruption import Interruption
from trimtab_trainer.memory import USABLE
from trimtab_trainer.model import TrainableModel
from trimtab_trainer.objectives.registry import definition_of
from trimtab_trainer.practices.replay import training_split
from trimtab_trainer.prepare import Prepared
from trimtab_trainer.quota import memory_limit
from trimtab_trainer.scratch_space import SPARE_BYTES
from trimtab_trainer.store.transfer import MIB
from trimtab_trainer.tasks.task import Task

FILE = "features.safetensors"
IN_MEMORY_BYTES = 1024 * MIB
"""Features beyond this lie in a file, where the pod's memory limit does not say less."""
SHARE_OF_FREE_MEMORY = 0.5
"""Of what the estimate leaves of the pod's limit."""
PROBED_EXAMPLES = 6
TOLERANCE = 1e-4
"""Relative difference of a loss from kept features: rounding that follows from other batches. A wrong part is far off."""


@dataclass(frozen=True)
class Rows:
    """All rows that batches will be made of."""

    examples: Sequence[Any]
    places: Sequence[range]
    """The rows of each example."""
    lengths: Sequence[int]
    """Positions of each row; 0 where the model decides."""

    def of(self, chosen: Sequence[int]) -> list[int]:
        """The rows of some examples."""
        return [row for number in chosen for row in self.places[number]]


def with_known_features(attempt: Attempt, prepared: Prepared) -> Task:
    """The task, over features computed here where that pays and is the same; the reason where a user could change it.

    Raises:
        Interruption: SIGTERM came.
    """
    config, task = attempt.config, prepared.task
    if not is_wanted(config) or not pays(prepared, world_size=attempt.world.world_size):
        return task
    if prepared.model.shards is not None:
        logs.fact("features_not_kept", why="weights are spread over processes, which go through all layers together")
        return task
    trunk = frozen_trunk(prepared.model)
    changing = definition_of(config).changing_inputs(config) or _changing_practice(config)
    if trunk is not None and changing:
        attempt.warn(
            f"The frozen part runs at every step, because `{changing}` changes its inputs at random. Without it, features would be "
            "computed once, and an epoch would take less time."
        )
        return task
    with attempt.timed("computing features"):
        rows = all_rows([*training_split(prepared.splits).encoded, *prepared.splits["validation"].encoded])
        table = None if trunk is None else _table(attempt, prepared, trunk, rows)
        # All or none: processes that compute features meet at the end of it.
        lacking = sum_over_ranks([float(table is None)], prepared.model.device)[0]
        if trunk is None or table is None or lacking:
            return task
        compute(attempt, prepared, trunk, rows, table)
    return CachedTask(
        task, trunk, table, {id(one): place for one, place in zip(rows.examples, rows.places, strict=True)}
    )


def is_wanted(config: RunConfig) -> bool:
    """The method leaves a part frozen, and what reads it reads a fixed function of each example."""
    method = config.method.head_only or config.method.partial
    return method is not None and method.cache_features is not False and definition_of(config).has_fixed_inputs


def _changing_practice(config: RunConfig) -> str:
    """The field that changes embeddings while training; "" where none does."""
    training = config.training
    if training.adversarial is not None:
        return "training.adversarial"
    return "" if training.embedding_noise_alpha is None else "training.embeddingNoiseAlpha"


def pays(prepared: Prepared, *, world_size: int) -> bool:
    """Each process computes all features once: that must be less than the passes that it would take part in."""
    return prepared.total_steps > world_size * prepared.plan.steps_per_epoch


def _table(attempt: Attempt, prepared: Prepared, trunk: FrozenTrunk, rows: Rows) -> FeatureTable | None:
    """Room for all features; None where they are no fixed function, or have no room."""
    parts = what_the_head_reads(prepared.model, prepared.task, trunk, rows)
    if not parts:
        logs.fact("features_not_kept", why="the head reads more than fixed tensors of the trunk")
        return None
    lengths = rows.lengths if all(rows.lengths) else [0] * len(rows.lengths)
    size = sum(part.size(lengths) for part in parts)
    in_memory = size <= memory_for_features(attempt.config, prepared)
    table = FeatureTable(parts, lengths, None) if in_memory else _table_in_file(attempt, parts, lengths, size)
    if table is not None:
        place = "memory" if in_memory else "file"
        logs.fact("features_kept", rows=len(lengths), mebibytes=round(size / MIB, 1), where=place)
    return table


def _table_in_file(attempt: Attempt, parts: Sequence[Part], lengths: Sequence[int], size: int) -> FeatureTable | None:
    """On the scratch volume; None, and a warning, where that has no room."""
    file, free = attempt.scratch / f"{attempt.world.local_rank}-{FILE}", shutil.disk_usage(attempt.scratch).free
    if size + SPARE_BYTES <= free:
        try:
            return FeatureTable(parts, lengths, file)
        except OSError:  # another process of this pod was quicker
            file.unlink(missing_ok=True)
    attempt.warn(
        f"The frozen part runs at every step: its features have {size / MIB:.0f} MiB, more than fits into memory, and the "
        f"scratch volume has {free / MIB:.0f} MiB free. With a larger `scratchSize` in the TrainingProfile, or a smaller "
        "`data.maxSequenceLength`, they would be computed once."
    )
    return None


def memory_for_features(config: RunConfig, prepared: Prepared) -> float:
    """Bytes of memory that features may take."""
    limit = min(filter(None, (config.memory_limit_bytes, memory_limit())), default=None)
    if limit is None:
        return IN_MEMORY_BYTES
    return max(0.0, min(IN_MEMORY_BYTES, SHARE_OF_FREE_MEMORY * (USABLE * limit - prepared.memory.total)))


def all_rows(examples: Sequence[Any]) -> Rows:
    """The rows of all examples, one after the other."""
    places: list[range] = []
    lengths: list[int] = []
    for example in examples:
        own = row_lengths(example)
        places.append(range(len(lengths), len(lengths) + len(own)))
        lengths += own
    return Rows(examples, places, lengths)


def row_lengths(example: Any) -> list[int]:
    """Positions of each row that an example becomes: several for a question with windows; 0 where no text is read."""
    if hasattr(example, "windows"):
        return [len(window.ids) for window in example.windows]
    return [len(example.ids) if hasattr(example, "ids") else 0]


def what_the_head_reads(model: TrainableModel, task: Task, trunk: FrozenTrunk, rows: Rows) -> list[Part]:
    """Found on a few examples from the longest to the shortest, and tried on them: empty where the loss is another one."""
    order = sorted(range(len(rows.examples)), key=lambda number: -rows.examples[number].length)
    chosen = [order[place * (len(order) - 1) // (PROBED_EXAMPLES - 1)] for place in range(PROBED_EXAMPLES)]
    batch = task.collate([rows.examples[number] for number in chosen])
    lengths = [rows.lengths[row] for row in rows.of(chosen)]
    model.train()
    with trunk.noting() as trained:
        task.loss(model, batch)
    model.module.eval()
    with torch.no_grad():
        expected = task.loss(model, batch)
        with trunk.noting() as values:
            task.loss(model, batch)
    if not all(_is_fixed(trained[name], value) for name, value in values.items()):
        return []
    leaves = {name: value.detach().requires_grad_() for name, value in values.items() if value.is_floating_point()}
    if not leaves:
        return []
    parts = parts_read(leaves, _gradients(model, task, trunk, leaves, batch), lengths)
    if all(lengths) and any(part.positions is Positions.WHOLE and len(part.shape) > 1 for part in parts):
        return []  # of another shape with every batch
    kept = {part.name: part.whole(part.kept(values[part.name], lengths), lengths) for part in parts}
    try:
        with torch.no_grad(), trunk.giving(kept):
            again = task.loss(model, batch)
    except (RuntimeError, IndexError, ValueError):  # it reads what has no gradient
        return []
    return parts if bool(torch.isclose(again, expected, rtol=TOLERANCE, atol=TOLERANCE)) else []


def _gradients(
    model: TrainableModel, task: Task, trunk: FrozenTrunk, leaves: Mapping[str, Tensor], batch: Any
) -> dict[str, Tensor | None]:
    """The loss's gradient by each tensor; where every position is read anyway, none is 0, and the layers above need no memory for it."""
    if trunk.is_read_whole:
        return {name: torch.ones_like(value) for name, value in leaves.items()}
    with trunk.giving(leaves):
        loss = task.loss(model, batch)
    found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    return dict(zip(leaves, found, strict=True))


def _is_fixed(trained: Tensor, evaluated: Tensor) -> bool:
    """Training computes what evaluation does, and nothing that moves has a part in it."""
    return not trained.requires_grad and torch.allclose(trained, evaluated, rtol=TOLERANCE, atol=TOLERANCE)


def compute(attempt: Attempt, prepared: Prepared, trunk: FrozenTrunk, rows: Rows, table: FeatureTable) -> None:
    """Run the trunk over all rows, always in the same batches: a resumed attempt finds the same bits."""
    model, task = prepared.model, prepared.task
    model.module.eval()
    order = sorted(range(len(rows.examples)), key=lambda number: (-rows.examples[number].length, number))
    tokens = prepared.micro_batch_size * attempt.config.data.max_sequence_length
    for batch in micro_batches(
        [(number,) for number in order], size=None, tokens=tokens, length=lambda row: rows.examples[row[0]].length
    ):
        if attempt.stop.requested:
            break
        chosen = [number for row in batch for number in row]
        with torch.no_grad(), trunk.noting() as values:
            task.loss(model, task.collate([rows.examples[number] for number in chosen]))
        table.put(rows.of(chosen), values)
    if sum_over_ranks([float(attempt.stop.requested)], model.device)[0]:
        raise Interruption("SIGTERM while features were computed")
