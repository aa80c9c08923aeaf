"""The version that a new one has to beat, measured in the same pod on the same data, before training."""

from pathlib import Path

from trimtab_trainer import logs
from trimtab_trainer.attempt import Attempt
from trimtab_trainer.contract.gates import PREFIXES
from trimtab_trainer.contract.run_config import ResolvedModelVersion
from trimtab_trainer.distributed import sum_over_ranks
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.fetch.published import fetch_version
from trimtab_trainer.measure import measure_splits
from trimtab_trainer.prepare import Prepared
from trimtab_trainer.published_model import Measurable, load_published, release
from trimtab_trainer.state import LoopState
from trimtab_trainer.store.object_store import ObjectStore


def measure_champion(attempt: Attempt, prepared: Prepared, loop: LoopState, store: ObjectStore) -> None:
    """Note the champion's metrics in the loop's state, once. All ranks take part.

    A champion that cannot be measured ends no run: its gates have no number then, which is no verdict on the new model.
    """
    champion = attempt.config.champion
    name = champion.name if champion else ""
    if champion is None or loop.champion == name:
        if not name:
            loop.champion, loop.champion_metrics = "", {}
        return
    loop.champion, loop.champion_metrics = name, {}
    with attempt.timed("measuring the champion"):
        measurable = _load(attempt, prepared, champion, store)
        if measurable is not None:
            loop.champion_metrics = measure_splits(
                attempt,
                measurable.model,
                measurable.task,
                measurable.splits,
                tokens_per_batch=prepared.micro_batch_size * attempt.config.data.max_sequence_length,
            )
    del measurable
    release(prepared.model.device)
    logs.fact("champion_measured", champion=name, **loop.champion_metrics)


def _load(
    attempt: Attempt, prepared: Prepared, champion: ResolvedModelVersion, store: ObjectStore
) -> Measurable | None:
    """None on all ranks where one of them fails: they measure together."""
    directory: Path = attempt.scratch / f"champion-{attempt.world.local_rank}"
    splits = {str(name): prepared.splits[name] for name in PREFIXES}
    measurable = None
    try:
        files = fetch_version(champion, store=store, directory=directory)
        measurable = load_published(
            attempt.config,
            files,
            splits,
            device=prepared.model.device,
            precision=prepared.model.precision,
            scorer=prepared.scorer,
        )
    except TrainerError as error:
        attempt.warn(f"The champion {champion.name} could not be measured: {error}")
    failed = sum_over_ranks([float(measurable is None)], prepared.model.device)[0]
    return None if failed else measurable
