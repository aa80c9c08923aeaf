"""Measuring a split: sums over micro batches and ranks, then the task's metrics."""

from collections.abc import Callable

from trimtab_trainer.data.batches import Row, micro_batches, share_of_rank
from trimtab_trainer.data.splits import Split
from trimtab_trainer.distributed import sum_counts, sum_over_ranks
from trimtab_trainer.interruption import Interruption
from trimtab_trainer.model import TrainableModel
from trimtab_trainer.tasks.task import Sums, Task
from trimtab_trainer.world import World


def evaluation_rows(split: Split) -> list[Row]:
    """One example a row, longest first: like lengths share a micro batch, and a lack of memory shows at once."""
    order = sorted(range(len(split.encoded)), key=lambda index: (-split.encoded[index].length, index))
    return [(index,) for index in order]


def evaluate(
    model: TrainableModel, task: Task, split: Split, *, world: World, tokens_per_batch: int, stop: Callable[[], bool]
) -> dict[str, float]:
    """The task's metrics on one split, named without its prefix.

    Raises:
        Interruption: some rank was asked to stop; nothing is measured.
    """
    model.module.eval()
    rows = evaluation_rows(split)
    is_shared = len(rows) >= world.world_size
    mine = share_of_rank(rows, rank=world.rank, world_size=world.world_size) if is_shared else rows
    sums: Sums = {}
    for batch in micro_batches(
        mine, size=None, tokens=tokens_per_batch, length=lambda row: split.encoded[row[0]].length
    ):
        if stop():
            break
        found = task.measure(model, task.collate([split.encoded[index] for row in batch for index in row]))
        sums = {name: sums.get(name, 0.0) + value for name, value in found.items()}
    model.module.train()
    if sum_over_ranks([float(stop())], model.device)[0]:
        raise Interruption("SIGTERM during an evaluation")
    return task.metrics(sum_counts(sums, model.device) if is_shared else sums)
