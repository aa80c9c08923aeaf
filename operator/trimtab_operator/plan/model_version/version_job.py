"""The Job that looks at a published version: reads every byte back and, if asked to, measures its gates again.

It runs in the version's namespace with the store credentials found there: the operator has none.
"""

from trimtab_operator import names
from trimtab_operator.api.v1alpha1 import ModelVersion, StorageProfile, TrainingProfile
from trimtab_operator.api.v1alpha1.training_profile import ResourceRequirements
from trimtab_operator.plan import pods, volumes
from trimtab_operator.plan.champion import champion
from trimtab_operator.plan.fine_tune_job.failure_policy import CONTAINER
from trimtab_operator.plan.stores import model_source, resolved_version, store
from trimtab_operator.settings import Settings
from trimtab_operator.state import Manifest, ObservedVersion
from trimtab_trainer.contract import mounts
from trimtab_trainer.contract.exit_codes import USER_MUST_ACT
from trimtab_trainer.contract.gates import Evaluation
from trimtab_trainer.contract.manifests import canonical_json
from trimtab_trainer.contract.run_config import (
    SignaturePolicy,
    VersionDeletion,
    VersionEvaluationConfig,
    VersionImport,
    VersionJobConfig,
)
from trimtab_trainer.contract.spec import Task

COMMAND = ("python", "-m", "trimtab_trainer.version_job")
DEADLINE_SECONDS = 6 * 3600
_VERIFYING = ResourceRequirements(requests={"cpu": "100m", "memory": "256Mi"}, limits={"memory": "1Gi"})
"""Bytes pass through a hash; nothing of them is kept."""
_RETRIES = 3


def version_job(
    observed: ObservedVersion,
    name: str,
    *,
    measures: bool,
    profile: TrainingProfile,
    storage: StorageProfile,
    settings: Settings,
) -> Manifest:
    """The Job of that name."""
    config = version_job_config(observed, measures=measures, storage=storage)
    return _job(observed.version, name, config, profile=profile, storage=storage, settings=settings)


def reclaim_job(
    version: ModelVersion, name: str, *, profile: TrainingProfile, storage: StorageProfile, settings: Settings
) -> Manifest:
    """The Job that deletes the version's bytes: manifest first, then every file at its place."""
    config = VersionJobConfig(
        namespace=version.metadata.namespace,
        task=version.spec.task or Task.model_validate({"causalLanguageModeling": {}}),
        store=store(storage.metadata.name, storage.spec),
        delete=VersionDeletion(
            name=version.metadata.name,
            model_name=version.spec.model_name,
            version=version.spec.version,
            uid=version.metadata.uid,
            manifest_sha256=version.artifact.manifest_sha256 if version.artifact else "",
        ),
    )
    return _job(version, name, config, profile=profile, storage=storage, settings=settings)


def _job(
    version: ModelVersion,
    name: str,
    config: VersionJobConfig,
    *,
    profile: TrainingProfile,
    storage: StorageProfile,
    settings: Settings,
) -> Manifest:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": version.metadata.namespace, "labels": labels(version)},
        "spec": {
            "backoffLimit": _RETRIES,
            "activeDeadlineSeconds": DEADLINE_SECONDS,
            "podFailurePolicy": failure_policy(),
            "template": {
                "metadata": {
                    "labels": labels(version),
                    "annotations": {names.VERSION_JOB_ANNOTATION: canonical_json(config.to_sparse_json()).decode()},
                },
                "spec": _pod_spec(version, config, profile=profile, storage=storage, settings=settings),
            },
        },
    }


def version_job_config(observed: ObservedVersion, *, measures: bool, storage: StorageProfile) -> VersionJobConfig:
    """Everything that the pod needs to know."""
    version, evaluation = observed.version, observed.version.spec.evaluation
    return VersionJobConfig(
        namespace=version.metadata.namespace,
        version=resolved_version(version) if version.artifact is not None else None,
        import_from=_import(version) if version.artifact is None else None,
        task=version.spec.task or Task.model_validate({"causalLanguageModeling": {}}),
        store=store(storage.metadata.name, storage.spec),
        signatures=_signatures(observed.profile),
        signed=version.spec.signature is not None,
        evaluate=_evaluation(observed) if measures else None,
        accelerators=evaluation.accelerators if measures and evaluation else 0,
    )


def _signatures(profile: TrainingProfile | None) -> SignaturePolicy:
    """What is missing is said by Promotable; here what is there must hold."""
    return SignaturePolicy(public_keys=profile.spec.signing.public_keys if profile else [])


def _import(version: ModelVersion) -> VersionImport | None:
    source, spec = version.spec.import_from, version.spec
    if source is None:
        return None
    return VersionImport(
        uri=source.uri,
        format=source.format,
        name=version.metadata.name,
        model_name=spec.model_name,
        version=spec.version,
        uid=version.metadata.uid,
        base_model=model_source(spec.base_model),
    )


def _evaluation(observed: ObservedVersion) -> VersionEvaluationConfig | None:
    version = observed.version
    evaluation = version.spec.evaluation
    if evaluation is None:
        return None
    rival = champion(observed.siblings, observed.rollouts, but=version.metadata.name)
    return VersionEvaluationConfig(
        objective=evaluation.objective,
        data=evaluation.data,
        evaluation=Evaluation(gates=evaluation.gates),
        champion=resolved_version(rival) if rival else None,
        reward_model=resolved_version(observed.reward_version) if observed.reward_version else None,
        seed=evaluation.seed,
        precision=evaluation.precision,
    )


def labels(version: ModelVersion) -> dict[str, str]:
    """Labels of the Job and its pods."""
    return {
        names.MANAGED_LABEL: "true",
        names.MODEL_LABEL: version.spec.model_name,
        names.VERSION_LABEL: str(version.spec.version),
        names.COMPONENT_LABEL: "version-check",
        "app.kubernetes.io/name": "trimtab",
        "app.kubernetes.io/instance": version.metadata.name,
        "app.kubernetes.io/managed-by": names.FIELD_MANAGER,
    }


def failure_policy() -> Manifest:
    """A lost place costs no try; what trying again cannot help ends the Job."""
    codes = sorted(code.value for code in USER_MUST_ACT)
    return {
        "rules": [
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            {
                "action": "FailJob",
                "onExitCodes": {"containerName": CONTAINER, "operator": "In", "values": codes},
            },
        ]
    }


def _pod_spec(
    version: ModelVersion,
    config: VersionJobConfig,
    *,
    profile: TrainingProfile,
    storage: StorageProfile,
    settings: Settings,
) -> Manifest:
    spec, measured = profile.spec, config.evaluate
    container = pods.Container(
        name=CONTAINER,
        # A custom trainer's image knows nothing of this.
        image=(spec.image if not spec.command else "") or settings.trainer_image,
        command=COMMAND,
        environment={},
        resources=spec.resources if measured else _VERIFYING,
        accelerators=config.accelerators,
    )
    chosen = [
        volumes.annotation_volume(names.VERSION_JOB_ANNOTATION, file=mounts.VERSION_JOB_FILE),
        volumes.credentials_volume(storage.spec),
        volumes.scratch_volume(spec.scratch_size),
        *volumes.hub_volumes(version.spec.base_model.secret_name),
    ]
    if measured is not None:
        data = measured.data
        sources = [source.uri for split in (data.train, data.validation, data.test, data.general) for source in split]
        others = [one.base_model.uri for one in (measured.champion, measured.reward_model) if one is not None]
        judge = measured.objective.reward_model
        others += [judge.uri] if judge is not None else []
        chosen += volumes.claim_volumes([*sources, version.spec.base_model.uri, *others])
    return pods.pod_spec(spec, container, volumes=chosen) | {"restartPolicy": "Never"}
