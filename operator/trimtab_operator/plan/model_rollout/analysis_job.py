"""Analyses by a Job: one Job for each measurement, which asks the canary through the rollout's Service.

It runs in the rollout's namespace, with the data that it may read there; what it found out is read from its termination message.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from trimtab_operator import names
from trimtab_operator.api.v1alpha1 import ModelRollout
from trimtab_operator.api.v1alpha1.analysis import AnswersMetric
from trimtab_operator.api.v1alpha1.training_profile import ResourceRequirements
from trimtab_operator.plan import pods, volumes
from trimtab_operator.plan.fine_tune_job.failure_policy import CONTAINER
from trimtab_operator.plan.fine_tune_job.observation import parse_job
from trimtab_operator.plan.model_rollout import children
from trimtab_operator.plan.model_rollout.service import service
from trimtab_operator.plan.model_version.check import follow
from trimtab_operator.plan.model_version.version_job import failure_policy
from trimtab_operator.plan.stores import store
from trimtab_operator.settings import Settings
from trimtab_operator.state import (
    DueMetric,
    Manifest,
    ObjectRef,
    ObservedRollout,
    Sample,
    ServerSetting,
    VersionCheck,
)
from trimtab_trainer.contract import mounts
from trimtab_trainer.contract.canary import CanaryJobConfig
from trimtab_trainer.contract.manifests import canonical_json
from trimtab_trainer.contract.spec import Task

COMMAND = ("python", "-m", "trimtab_trainer.canary")
COMPONENT = "analysis"
_ASKING = ResourceRequirements(requests={"cpu": "100m", "memory": "256Mi"}, limits={"memory": "1Gi"})
"""Rows go out and answers come in."""
_RETRIES = 1
_KEPT_SECONDS = 3600
"""For its log."""


def job_name(rollout: str, due: DueMetric) -> str:
    """Another one for each measurement of each canary."""
    return names.analysis_job(rollout, f"{due.canary}\n{due.begun}\n{due.metric.name}\n{due.taken}")


def answers(observed: ObservedRollout, due: Sequence[DueMetric], *, now: datetime) -> dict[str, Sample]:
    """What the Jobs of metrics that are due have found out, or why there is nothing yet."""
    return {each.metric.name: _answer(observed, each, now=now) for each in due if each.metric.provider.job is not None}


def jobs(
    observed: ObservedRollout, due: Sequence[DueMetric], setting: ServerSetting, *, settings: Settings
) -> tuple[Manifest, ...]:
    """The Jobs of metrics that are due and have no answer. One that exists is left as it is."""
    waiting = (
        (each, each.metric.provider.job) for each in due if observed.samples.get(each.metric.name, Sample()).waits
    )
    return tuple(_job(observed, each, asks, setting, settings=settings) for each, asks in waiting if asks is not None)


def obsolete(observed: ObservedRollout, due: Sequence[DueMetric]) -> tuple[ObjectRef, ...]:
    """Jobs at work that nobody waits for any more: the canary is gone, or measures anew."""
    wanted = {job_name(observed.rollout.metadata.name, each) for each in due}
    parsed = map(parse_job, observed.jobs)
    return tuple(job.ref for job in parsed if job.ref.name not in wanted and not job.has_ended and not job.is_deleting)


def _answer(observed: ObservedRollout, due: DueMetric, *, now: datetime) -> Sample:
    name = job_name(observed.rollout.metadata.name, due)
    check, _ = follow(observed.jobs, observed.job_pods, VersionCheck(name, "", None), now=now)
    if not check.has_ended:
        trouble = f": {check.problem.message}" if check.problem else ""
        return Sample(waits=f"{due.metric.name} waits for Job {name}{trouble}")
    words = check.words
    if words is None or words.reason != "Succeeded" or not words.gates:
        why = f"{words.reason}: {words.message}" if words else check.problem.message if check.problem else "no result"
        return Sample(error=f"Job {name}: {why}"[:256])
    measured = words.gates[0]
    return Sample(result=_number(measured.result), champion=_number(measured.champion))


def _number(text: str | None) -> float | None:
    return None if text is None else float(text)


def _job(
    observed: ObservedRollout, due: DueMetric, asks: AnswersMetric, setting: ServerSetting, *, settings: Settings
) -> Manifest:
    rollout, storage, profile = observed.rollout, setting.storage, setting.profile.spec
    labels = children.labels(rollout) | {names.COMPONENT_LABEL: COMPONENT}
    config = CanaryJobConfig(
        endpoint=_address(rollout, rollout.status.canary.version if rollout.status.canary else None),
        stable_endpoint=_address(rollout, rollout.status.stable_version) if rollout.spec.serving.gateway else "",
        canary=due.canary,
        stable=due.stable,
        task=setting.version.spec.task or Task.model_validate({"causalLanguageModeling": {}}),
        data=asks.data,
        metric=asks.metric,
        examples=asks.examples,
        max_tokens=asks.max_tokens,
        store=store(storage.metadata.name, storage.spec),
    )
    container = pods.Container(
        name=CONTAINER,
        # A custom trainer's image knows nothing of this.
        image=(profile.image if not profile.command else "") or settings.trainer_image,
        command=COMMAND,
        environment={},
        resources=_ASKING,
    )
    chosen = [
        volumes.annotation_volume(names.CANARY_JOB_ANNOTATION, file=mounts.CANARY_JOB_FILE),
        volumes.credentials_volume(storage.spec),
        volumes.scratch_volume(profile.scratch_size),
        *volumes.claim_volumes([asks.data.uri]),
    ]
    annotations = {names.CANARY_JOB_ANNOTATION: canonical_json(config.to_sparse_json()).decode()}
    metadata = children.metadata(rollout, job_name(rollout.metadata.name, due)) | {"labels": labels}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {
            "backoffLimit": _RETRIES,
            "activeDeadlineSeconds": asks.deadline_seconds,
            "ttlSecondsAfterFinished": _KEPT_SECONDS,
            "podFailurePolicy": failure_policy(),
            "template": {
                "metadata": {"labels": labels, "annotations": annotations},
                "spec": pods.pod_spec(profile, container, volumes=chosen) | {"restartPolicy": "Never"},
            },
        },
    }


def _address(rollout: ModelRollout, version: int | None) -> str:
    """Of the Service that reaches the version by its name."""
    name = service(rollout, version if rollout.spec.serving.gateway else None)["metadata"]["name"]
    return f"http://{name}.{rollout.metadata.namespace}.svc"


def with_answers(observed: ObservedRollout, due: Sequence[DueMetric], *, now: datetime) -> ObservedRollout:
    """What was measured in this pass, with what Jobs have measured."""
    return replace(observed, samples={**observed.samples, **answers(observed, due, now=now)})
