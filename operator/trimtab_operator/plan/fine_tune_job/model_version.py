"""The ModelVersion that a job makes. It has no owner: deleting the job keeps the model."""

from trimtab_operator import names
from trimtab_operator.api.v1alpha1.model_version import (
    Artifact,
    BaseModel,
    ModelVersionSpec,
    VersionEvaluation,
    VersionLineage,
    VersionSource,
)
from trimtab_operator.gates import judge
from trimtab_operator.settings import Settings
from trimtab_operator.state import Manifest, ObservedJob
from trimtab_trainer.contract.messages import MAX_REPORTED_METRICS, MetricValue, PublishedModel, TerminationMessage
from trimtab_trainer.contract.methods import ADAPTER_FORMATS
from trimtab_trainer.contract.run_config import ResolvedDataset


def model_version(
    observed: ObservedJob,
    attempt: int,
    *,
    termination: TerminationMessage,
    published: PublishedModel,
    settings: Settings,
) -> Manifest:
    """The ModelVersion `<modelName>-v<N>` of what was published."""
    job = observed.job
    resolved, output = job.status.resolved, job.spec.output
    spec = ModelVersionSpec(
        model_name=output.model_name,
        version=published.version,
        version_label=output.version_label,
        reclaim_policy=output.reclaim_policy,
        task=job.spec.task,
        max_sequence_length=job.spec.data.max_sequence_length,
        source=VersionSource(name=job.metadata.name, uid=job.metadata.uid, attempt=attempt, step=published.step),
        base_model=_base_model(observed, published),
        artifact=Artifact(
            uri=published.uri,
            manifest_sha256=published.manifest_sha256,
            size_bytes=published.size_bytes,
            format=published.format,
            files=published.files,
        ),
        storage=resolved.storage_name,
        profile=resolved.profile_name,
        lineage=VersionLineage(
            datasets=_datasets(observed),
            config_digest=published.config_digest,
            image_digest=resolved.image_digest or observed.image(settings.trainer_image),
            parent_version=observed.base_version.metadata.name if observed.base_version else "",
        ),
        metrics=_metrics(observed, termination),
        evaluation=_evaluation(observed),
        gates=judge(job.spec.evaluation.gates, termination.gates, termination.champion),
        signature=published.signature,
        verified_at=published.verified_at,
    )
    return {
        "apiVersion": names.API_VERSION,
        "kind": "ModelVersion",
        "metadata": {
            "name": names.model_version(output.model_name, published.version),
            "namespace": job.metadata.namespace,
            "labels": {
                names.MANAGED_LABEL: "true",
                names.JOB_LABEL: job.metadata.name,
                names.MODEL_LABEL: output.model_name,
                names.VERSION_LABEL: str(published.version),
                "app.kubernetes.io/name": "trimtab",
                "app.kubernetes.io/managed-by": names.FIELD_MANAGER,
            },
            # From its first moment on: nobody can delete it and leave the bytes behind.
            **({"finalizers": [names.RECLAIM_FINALIZER]} if output.reclaim_policy == "Delete" else {}),
        },
        "spec": spec.to_json(),
    }


def _base_model(observed: ObservedJob, published: PublishedModel) -> BaseModel:
    """What a server loads under the adapter: for a version of a version, what lies at the bottom."""
    parent, model = observed.base_version, observed.job.spec.model
    if parent is None:
        return BaseModel(
            uri=model.uri, digest=published.base_model_digest, revision=model.revision, secret_name=model.secret_name
        )
    if parent.published.format in ADAPTER_FORMATS:
        base = parent.spec.base_model
        return base.model_copy(update={"digest": published.base_model_digest or base.digest})
    return BaseModel(uri=parent.published.uri, digest=published.base_model_digest)


def _evaluation(observed: ObservedJob) -> VersionEvaluation | None:
    """What it takes to measure the version again."""
    spec = observed.job.spec
    if not spec.evaluation.gates:
        return None
    return VersionEvaluation(
        gates=spec.evaluation.gates,
        data=spec.data,
        objective=spec.objective,
        seed=spec.training.seed,
        precision=spec.training.precision,
        accelerators=min(spec.distribution.accelerators_per_node, 1),
    )


def _datasets(observed: ObservedJob) -> list[ResolvedDataset]:
    report = observed.report.trainer if observed.report else None
    return list(report.datasets if report and report.datasets else observed.job.status.resolved.datasets)


def _metrics(observed: ObservedJob, termination: TerminationMessage) -> list[MetricValue]:
    """The last words outrank the last report, which outranks what was stored."""
    report = observed.report.trainer if observed.report else None
    sources = (observed.job.status.metrics, report.metrics if report else [], termination.metrics)
    newest = {metric.name: metric for metrics in sources for metric in metrics}
    return list(newest.values())[-MAX_REPORTED_METRICS:]
