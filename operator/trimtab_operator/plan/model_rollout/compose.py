"""What should exist for a ModelRollout now."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from trimtab_operator.plan.model_rollout import kserve, whole_models
from trimtab_operator.plan.model_rollout.analysis import due
from trimtab_operator.plan.model_rollout.analysis_job import jobs, obsolete
from trimtab_operator.plan.model_rollout.config_map import config_map
from trimtab_operator.plan.model_rollout.course import Pass, decide
from trimtab_operator.plan.model_rollout.deployment import deployment
from trimtab_operator.plan.model_rollout.disruption_budget import disruption_budgets
from trimtab_operator.plan.model_rollout.readiness import is_complete, read, report_seconds
from trimtab_operator.plan.model_rollout.service import service
from trimtab_operator.plan.model_rollout.serving import configs, servers_of
from trimtab_operator.settings import Settings
from trimtab_operator.state import ObservedRollout, Plan, Problem, RolloutCourse

LOOK_AGAIN = timedelta(seconds=15)
"""While a canary moves."""


def make_plan(observed: ObservedRollout, problems: Sequence[Problem], *, settings: Settings, now: datetime) -> Plan:
    """Move to the version that the spec asks for.

    What exists follows the stored status, and the course that is decided here becomes the next status: whatever the servers
    are told has been recorded before. The plan never waits for what is there to become ready: a new spec replaces a version
    that cannot start. With a problem nothing new is planned, and what serves goes on serving.
    """
    rollout = observed.rollout
    if rollout.metadata.deletion_timestamp is not None:
        return Plan()
    if observed.inference is not None:
        return kserve.make_plan(observed, problems, now=now)
    if observed.route is not None:
        return whole_models.make_plan(observed, problems, settings=settings, now=now)
    told = configs(observed, problems)
    readiness = read(observed, told, now=now)
    setting = servers_of(observed, problems)
    if setting is None or not told:
        course = decide(Pass(observed, problems, readiness, complete=False, now=now))
        return Plan(rollout=course)
    main = next(config for config in told.values())
    servers = deployment(rollout, setting, main, settings=settings)
    complete = is_complete(observed.deployment, servers)
    asked = () if problems else due(observed, now=now)
    course = decide(Pass(observed, problems, readiness, complete=complete, now=now))
    return Plan(
        apply=(config_map(rollout, told, settings=settings), service(rollout), *disruption_budgets(rollout), servers),
        create=jobs(observed, asked, setting, settings=settings),
        delete=obsolete(observed, asked),
        configs=told,
        rollout=course,
        requeue_after=_look_again(course),
        report_seconds=report_seconds(course),
    )


def _look_again(course: RolloutCourse) -> timedelta | None:
    """When something is due. A server that falls silent says nothing that would wake anybody."""
    if course.canary is None or course.canary.rollback is not None:
        return course.look_again
    return min(course.look_again or LOOK_AGAIN, LOOK_AGAIN)
