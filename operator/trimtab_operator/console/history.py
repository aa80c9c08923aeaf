"""What objects do not remember: losses step by step, and weights over time. In memory, bounded, gone with the process."""

from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from trimtab_operator.api.v1alpha1 import FineTuneJob, ModelRollout
from trimtab_operator.cluster import trim
from trimtab_operator.cluster.store import Store

MAX_POINTS = 240
MAX_OBJECTS = 200
_T = TypeVar("_T")
_WATCHED_STATES = ("Running", "Evaluating", "Publishing")


@dataclass
class Losses:
    """Of one job: training loss and validation loss by step."""

    training: dict[int, float] = field(default_factory=dict)
    validation: dict[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Weights:
    """Where requests went from a moment on: percent by version."""

    at: datetime
    shares: dict[int, int]


class History:
    """Looked at every few seconds."""

    def __init__(self) -> None:
        self._losses: OrderedDict[str, Losses] = OrderedDict()
        self._weights: OrderedDict[str, list[Weights]] = OrderedDict()

    def look(self, store: Store, *, now: datetime) -> None:
        """Note what running jobs and rollouts say at this moment."""
        for state in _WATCHED_STATES:
            for stored in store.having(trim.STATE + state):
                self._note_job(FineTuneJob.parse(stored.body()))
        for stored in store.all("ModelRollout"):
            self._note_rollout(ModelRollout.parse(stored.body()), now)

    def losses(self, job: FineTuneJob) -> Losses:
        """What was seen, and what the checkpoints in the job's status say: those outlive the operator."""
        seen = self._losses.get(job.metadata.uid, Losses())
        found = Losses(dict(seen.training), dict(seen.validation))
        for checkpoint in job.status.checkpoints:
            if "loss" in checkpoint.metrics:
                found.training.setdefault(checkpoint.step, checkpoint.metrics["loss"])
            if "eval_loss" in checkpoint.metrics:
                found.validation[checkpoint.step] = checkpoint.metrics["eval_loss"]
        return found

    def weights(self, rollout: ModelRollout) -> list[Weights]:
        """Oldest first."""
        return list(self._weights.get(rollout.metadata.uid, ()))

    def _note_job(self, job: FineTuneJob) -> None:
        losses = _recent(self._losses, job.metadata.uid, Losses())
        progress = job.status.progress
        if progress.loss is not None:
            losses.training[progress.step] = progress.loss
        _thin(losses.training)

    def _note_rollout(self, rollout: ModelRollout, now: datetime) -> None:
        shares = {each.version: each.weight for each in rollout.status.weights}
        known = _recent(self._weights, rollout.metadata.uid, [])
        if shares and (not known or known[-1].shares != shares):
            known.append(Weights(now, shares))
            del known[:-MAX_POINTS]


def _recent(known: OrderedDict[str, _T], uid: str, new: _T) -> _T:
    """The entry of an object; the one that was not looked at longest makes room."""
    value = known.setdefault(uid, new)
    known.move_to_end(uid)
    while len(known) > MAX_OBJECTS:
        known.popitem(last=False)
    return value


def _thin(points: dict[int, float]) -> None:
    """Every second point goes when there are too many; the shape stays."""
    if len(points) > MAX_POINTS:
        for step in sorted(points)[1:-1:2]:
            del points[step]
