"""One pass over a ModelVersion."""

from dataclasses import replace
from datetime import datetime

from trimtab_operator.cluster.facade import Cluster
from trimtab_operator.cluster.trim import Stored
from trimtab_operator.plan.model_version.compose import make_plan
from trimtab_operator.reconcile.passes import WROTE, Pass, finished, with_rejection
from trimtab_operator.settings import Settings
from trimtab_operator.status.model_version.compose import compute_status
from trimtab_operator.validation.model_version.compose import check


async def reconcile(stored: Stored, cluster: Cluster, *, settings: Settings, now: datetime) -> Pass:
    """Observe, check, plan, apply, status, report. One that is being deleted comes here while our finalizer keeps it."""
    observed = cluster.observe.version(stored)
    if stored.deleting:
        observed = replace(observed, namespace_is_going=await cluster.is_going(stored.namespace))
    problems = check(observed, settings=settings)
    plan = make_plan(observed, problems, settings=settings, now=now)
    applied = await cluster.apply(plan, stored, now=now)
    if applied.wrote:
        return WROTE
    observed = with_rejection(observed, applied)
    outcome = compute_status(observed, problems, plan, settings=settings, now=now)
    reported = await cluster.report(outcome, stored)
    return finished(applied, reported=reported, after=plan.requeue_after)
