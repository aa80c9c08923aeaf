"""Replay: general data beside the new task's, so that what was there before is not forgotten (Rolnick et al., 2019, arXiv:1811.11682)."""

from collections.abc import Mapping
from dataclasses import replace

from trimtab_trainer.data.splits import Split


def training_split(splits: Mapping[str, Split]) -> Split:
    """The training split with the examples for replay behind its own."""
    train, general = splits["train"], splits.get("replay")
    if general is None:
        return train
    return replace(train, encoded=[*train.encoded, *general.encoded], examples=[*train.examples, *general.examples])


def replays_per_epoch(own_rows: int, fraction: float | None) -> int:
    """How many rows of general data make `fraction` of all, beside `own_rows`; at least one where some are asked for."""
    return 0 if fraction is None else max(1, round(own_rows * fraction / (1 - fraction)))
