"""Frozen values that travel between the rooms: what is observed, what is wrong, what should exist, what is said about it."""

from trimtab_operator.state.fine_tune_job import Course, ObservedJob, Report, Stage
from trimtab_operator.state.model_rollout import (
    DueMetric,
    ObservedInference,
    ObservedRollout,
    ObservedRoute,
    RolloutCourse,
    Sample,
    ServerNews,
    ServerSetting,
    fit_on_one_server,
    uses,
)
from trimtab_operator.state.model_version import ObservedVersion, Reclaim, VersionCheck
from trimtab_operator.state.objects import EventNote, Key, Manifest, ObjectRef, Problem, RejectedWrite
from trimtab_operator.state.plan import Outcome, Plan
from trimtab_operator.state.profiles import ObservedProfile, ObservedStorage

__all__ = [
    "Course",
    "DueMetric",
    "EventNote",
    "Key",
    "Manifest",
    "ObjectRef",
    "ObservedInference",
    "ObservedJob",
    "ObservedProfile",
    "ObservedRollout",
    "ObservedRoute",
    "ObservedStorage",
    "ObservedVersion",
    "Outcome",
    "Plan",
    "Problem",
    "Reclaim",
    "RejectedWrite",
    "Report",
    "RolloutCourse",
    "Sample",
    "ServerNews",
    "ServerSetting",
    "Stage",
    "VersionCheck",
    "fit_on_one_server",
    "uses",
]
