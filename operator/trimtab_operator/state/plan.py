"""What a pass comes to: what should be done, and what is said about it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from trimtab_operator.state.fine_tune_job import Course
from trimtab_operator.state.model_rollout import RolloutCourse
from trimtab_operator.state.model_version import Reclaim, VersionCheck
from trimtab_operator.state.objects import EventNote, Manifest, ObjectRef
from trimtab_trainer.contract.run_config import ServerConfig


@dataclass(frozen=True, slots=True)
class Plan:
    """What should be done now. Everything in it is safe to do twice."""

    prepare: tuple[Manifest, ...] = ()
    """Created while this pass's status is being stored: configuration that means nothing until what the status claims exists."""
    follow: tuple[Manifest, ...] = ()
    """Created as soon as this pass's status is stored and what is prepared is there; the next pass makes up for what fails."""
    create: tuple[Manifest, ...] = ()
    """Created once; an existing object of the same owner counts as done, another owner's is a NameConflict."""
    apply: tuple[Manifest, ...] = ()
    """Server-side apply with our field manager."""
    merge: tuple[Manifest, ...] = ()
    """Fields of objects that belong to somebody else: server-side apply as our field manager, without an owner. Never made anew."""
    delete: tuple[ObjectRef, ...] = ()
    """Deleted with preconditions, after a live read."""
    finalizer: bool | None = None
    """Whether our finalizer should keep the object; None: leave it as it is."""
    delete_owner: bool = False
    """The time to live is over: delete the object itself."""
    requeue_after: timedelta | None = None
    """Look again then, even if nothing happens."""
    course: Course | None = None
    """FineTuneJobs only: what was decided about the attempts."""
    check: VersionCheck | None = None
    """ModelVersions only: the Job that is wanted, or was and has an answer."""
    reclaim: Reclaim | None = None
    """ModelVersions only: the deletion of its bytes."""
    rollout: RolloutCourse | None = None
    """ModelRollouts only: what was decided about the versions."""
    configs: Mapping[str, ServerConfig] = field(default_factory=dict)
    """ModelRollouts only: what servers are told, by the key that their pods carry."""
    report_seconds: float = 8.0
    """ModelRollouts only: how often servers should report at least."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The new status, and the Events of its transitions."""

    status: Manifest
    """The whole `status` in wire form; written only when it differs from what is stored."""
    events: tuple[EventNote, ...] = field(default=())
