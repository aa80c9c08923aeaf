"""The administrators' profiles."""

from dataclasses import dataclass

from trimtab_operator.api.v1alpha1 import StorageProfile, TrainingProfile
from trimtab_trainer.contract.messages import TrainerReport


@dataclass(frozen=True, slots=True)
class ObservedStorage:
    """A StorageProfile and the newest probe result that a trainer reported for it."""

    profile: StorageProfile
    report: TrainerReport | None


@dataclass(frozen=True, slots=True)
class ObservedProfile:
    """A TrainingProfile."""

    profile: TrainingProfile
