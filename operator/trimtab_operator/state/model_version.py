"""A ModelVersion: what is observed of it, and of the Jobs that look at its bytes or delete them."""

from dataclasses import dataclass
from datetime import datetime

from trimtab_operator.api.v1alpha1 import ModelRollout, ModelVersion, StorageProfile, TrainingProfile
from trimtab_operator.state.objects import Manifest, Problem, RejectedWrite
from trimtab_trainer.contract.messages import TerminationMessage


@dataclass(frozen=True, slots=True)
class ObservedVersion:
    """A ModelVersion, what uses it, and the Jobs that look at it."""

    version: ModelVersion
    storage: StorageProfile | None
    rollouts: tuple[ModelRollout, ...]
    profile: TrainingProfile | None = None
    """The profile that trained it, or the default one: its Jobs run there."""
    siblings: tuple[ModelVersion, ...] = ()
    """All versions of the model; only where a gate names the champion."""
    reward_version: ModelVersion | None = None
    """The ModelVersion that judges answers, where the objective that it is measured by names one."""
    jobs: tuple[Manifest, ...] = ()
    """batch/v1 Jobs controlled by this ModelVersion."""
    pods: tuple[Manifest, ...] = ()
    """Pods controlled by those Jobs."""
    rejected: RejectedWrite | None = None
    dependents: tuple[str, ...] = ()
    """What else needs its bytes; looked up for a version that is being deleted."""
    namespace_is_going: bool = False
    """The namespace is being deleted: no Job can be made in it any more. Looked up likewise."""


@dataclass(frozen=True, slots=True)
class VersionCheck:
    """What the plan knows about the Job that looks at a ModelVersion. The status of the same pass records it."""

    job_name: str
    verify: str
    """Request that it answers."""
    evaluate: str | None
    """Request that it answers, when it measures too."""
    has_ended: bool = False
    words: TerminationMessage | None = None
    """What it found, or how it failed."""
    problem: Problem | None = None
    """Why it hangs, or why it has ended without a word."""


@dataclass(frozen=True, slots=True)
class Reclaim:
    """What the plan knows about the deletion of a ModelVersion's bytes. The status of the same pass records it."""

    users: tuple[str, ...] = ()
    """What it waits for, before anything is deleted."""
    check: VersionCheck | None = None
    """Its Job."""
    is_done: bool = False
    """The Job has deleted everything."""
    problem: Problem | None = None
    """Why there is none."""
    retry_at: datetime | None = None
    """When one that failed is made anew."""
