"""One pass over a FineTuneJob."""

from datetime import datetime

from trimtab_operator import names
from trimtab_operator.cluster.facade import Cluster
from trimtab_operator.cluster.trim import Stored
from trimtab_operator.plan.fine_tune_job.compose import make_plan
from trimtab_operator.reconcile.passes import SETTLED, WROTE, Pass, finished, with_rejection
from trimtab_operator.settings import Settings
from trimtab_operator.status.fine_tune_job.compose import compute_status
from trimtab_operator.validation.fine_tune_job.compose import check


async def reconcile(stored: Stored, cluster: Cluster, *, settings: Settings, now: datetime) -> Pass:
    """Observe, check, plan, apply, status, report."""
    observed = cluster.observe.job(stored)
    if observed.job.spec.managed_by != names.MANAGED_BY:
        return SETTLED
    problems = check(observed, settings=settings)
    plan = make_plan(observed, problems, settings=settings, now=now)
    applied = await cluster.apply(plan, stored, now=now)
    if applied.wrote:
        return WROTE
    observed = with_rejection(observed, applied)
    outcome = compute_status(observed, problems, plan, settings=settings, now=now)
    reported = await cluster.report(outcome, stored, plan=plan)
    if reported and plan.follow:
        return WROTE
    return finished(applied, reported=reported, after=plan.requeue_after)
