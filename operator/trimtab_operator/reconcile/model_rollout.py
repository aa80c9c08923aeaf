"""One pass over a ModelRollout."""

from dataclasses import replace
from datetime import datetime

from trimtab_operator.cluster.facade import Cluster
from trimtab_operator.cluster.trim import Stored
from trimtab_operator.plan.model_rollout.analysis import due
from trimtab_operator.plan.model_rollout.analysis_job import with_answers
from trimtab_operator.plan.model_rollout.compose import make_plan
from trimtab_operator.reconcile.passes import WROTE, Pass, finished, with_rejection
from trimtab_operator.settings import Settings
from trimtab_operator.status.model_rollout.compose import compute_status
from trimtab_operator.validation.model_rollout.compose import check


async def reconcile(stored: Stored, cluster: Cluster, *, settings: Settings, now: datetime) -> Pass:
    """Observe, measure what is due, check, plan, apply, status, report."""
    observed = cluster.observe.rollout(stored)
    rollout = observed.rollout
    observed = replace(observed, inference=await cluster.inference(rollout), route=await cluster.route(rollout))
    asked = due(observed, now=now)
    observed = replace(observed, samples=await cluster.measure(asked, observed))
    observed = with_answers(observed, asked, now=now)
    problems = check(observed, settings=settings)
    plan = make_plan(observed, problems, settings=settings, now=now)
    applied = await cluster.apply(plan, stored, now=now)
    if applied.wrote:
        return WROTE
    observed = with_rejection(observed, applied)
    outcome = compute_status(observed, problems, plan, settings=settings, now=now)
    reported = await cluster.report(outcome, stored)
    return finished(applied, reported=reported, after=plan.requeue_after)
