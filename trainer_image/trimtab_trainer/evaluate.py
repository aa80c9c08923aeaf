"""Measuring a split: sums over micro batches and ranks, then the task's metrics."""

from collections.abc import Callable
from typing import Any

from trimtab_trainer.data.batches import Row, micro_batches, share_of_rank
from trimtab_trainer.data.encoded import cost
from trimtab_trainer.data.splits import Split
from trimtab_trainer.distributed import sum_counts, sum_over_ranks
from trimtab_trainer.interruption import Interruption
from trimtab_trainer.model import TrainableModel
from trimtab_trainer.practices.adversarial import PREFIX, Attack
from trimtab_trainer.tasks.task import ComparesWithinSplit, Sums, Task
from trimtab_trainer.world import World


def evaluation_rows(split: Split) -> list[Row]:
    """One example a row, longest first: like lengths share a micro batch, and a lack of memory shows at once."""
    order = sorted(range(len(split.encoded)), key=lambda index: (-split.encoded[index].length, index))
    return [(index,) for index in order]


def evaluate(  # noqa: PLR0913 - one measurement, wholly described
    model: TrainableModel,
    task: Task,
    split: Split,
    *,
    world: World,
    tokens_per_batch: int,
    stop: Callable[[], bool],
    attack: Attack | None = None,
) -> dict[str, float]:
    """The task's metrics on one split, named without its prefix; with an attack, under it too, named `adversarial_...`.

    Raises:
        Interruption: some rank was asked to stop; nothing is measured.
    """
    model.module.eval()
    rows = evaluation_rows(split)
    is_shared = len(rows) >= world.world_size
    mine = share_of_rank(rows, rank=world.rank, world_size=world.world_size) if is_shared else rows
    if isinstance(task, ComparesWithinSplit):
        task.begin_measuring(model, split.encoded)
    sums: Sums = {}
    for batch in micro_batches(
        mine, size=None, tokens=tokens_per_batch, length=lambda row: cost(split.encoded[row[0]])
    ):
        if stop():
            break
        found = measure(model, task, task.collate([split.encoded[index] for row in batch for index in row]), attack)
        sums = {name: sums.get(name, 0.0) + value for name, value in found.items()}
    model.train()
    # With a world of its own, one process measures while its peers may be gone.
    is_alone = world.world_size == 1
    if stop() if is_alone else sum_over_ranks([float(stop())], model.device)[0]:
        raise Interruption("SIGTERM during an evaluation")
    counts = sum_counts(sums, model.device) if is_shared and not is_alone else sums
    attacked = {name.removeprefix(PREFIX): value for name, value in counts.items() if name.startswith(PREFIX)}
    clean = task.metrics({name: value for name, value in counts.items() if not name.startswith(PREFIX)})
    return clean | {f"{PREFIX}{name}": value for name, value in (task.metrics(attacked) if attacked else {}).items()}


def measure(model: TrainableModel, task: Task, batch: Any, attack: Attack | None) -> Sums:
    """Counts of one batch, clean and under attack."""
    found = task.measure(model, batch)
    if attack is None:
        return found
    attack.perturb(lambda: task.loss(model, batch))
    attacked = task.measure(model, batch)
    attack.relax()
    return found | {f"{PREFIX}{name}": value for name, value in attacked.items()}
