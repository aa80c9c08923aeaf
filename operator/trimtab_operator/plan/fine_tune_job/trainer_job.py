"""The attempt's batch/v1 Job: what a trainer pod looks like."""

import hashlib
import math

from trimtab_operator import names
from trimtab_operator.api.quantities import parse_quantity
from trimtab_operator.api.v1alpha1.storage_profile import StorageProfileSpec
from trimtab_operator.api.v1alpha1.training_profile import TrainingProfileSpec
from trimtab_operator.plan import pods, volumes
from trimtab_operator.plan.fine_tune_job import children
from trimtab_operator.plan.fine_tune_job.failure_policy import CONTAINER, pod_failure_policy
from trimtab_operator.plan.fine_tune_job.headless_service import main_address
from trimtab_operator.settings import Settings
from trimtab_operator.state import Manifest, ObservedJob
from trimtab_trainer.contract import mounts
from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.contract.spec import DataSource

COMMAND = ("python", "-m", "trimtab_trainer")
"""On any number of processes: the trainer starts them itself (docs/decisions/0006)."""


def trainer_job(
    observed: ObservedJob,
    config: RunConfig,
    text: str,
    *,
    profile: TrainingProfileSpec,
    storage: StorageProfileSpec,
    settings: Settings,
) -> Manifest:
    """The Job `<job>-a<N>`; `text` is what its ConfigMap says. One lost pod ends it: the next attempt resumes from the last committed checkpoint."""
    job = observed.job
    policy, nodes = job.spec.run_policy, job.spec.distribution.nodes
    metadata = children.metadata(job, config.attempt)
    metadata["annotations"] = {names.CONFIG_HASH_ANNOTATION: hashlib.sha256(text.encode()).hexdigest()}
    spec: Manifest = {
        "completionMode": "Indexed",
        "completions": nodes,
        "parallelism": nodes,
        "backoffLimit": 0,
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": pod_failure_policy(),
        "template": {
            "metadata": {"labels": children.labels(job, config.attempt)},
            "spec": _pod_spec(observed, config, profile=profile, storage=storage, settings=settings),
        },
    }
    if policy.queue_name:
        metadata["labels"][names.QUEUE_LABEL] = policy.queue_name
        # Only at creation: from then on the field is the queue's.
        spec["suspend"] = True
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def _pod_spec(
    observed: ObservedJob,
    config: RunConfig,
    *,
    profile: TrainingProfileSpec,
    storage: StorageProfileSpec,
    settings: Settings,
) -> Manifest:
    name = names.attempt_job(observed.job.metadata.name, config.attempt)
    container = pods.Container(
        name=CONTAINER,
        image=observed.image(settings.trainer_image),
        command=profile.command or COMMAND,
        environment=_environment(observed, config, profile=profile, settings=settings),
        resources=profile.resources,
        accelerators=config.distribution.accelerators_per_node,
    )
    spec = pods.pod_spec(
        profile, container, volumes=_volumes(config, name, profile=profile, storage=storage, settings=settings)
    )
    spec["restartPolicy"] = "Never"
    if observed.job.spec.run_policy.priority_class_name:
        spec["priorityClassName"] = observed.job.spec.run_policy.priority_class_name
    if config.distribution.nodes > 1:
        spec["subdomain"] = name
    return spec


def _environment(
    observed: ObservedJob, config: RunConfig, *, profile: TrainingProfileSpec, settings: Settings
) -> dict[str, str]:
    metadata = observed.job.metadata
    base = f"{settings.status_url}/{names.VERSION}/namespaces/{metadata.namespace}/finetunejobs/{metadata.name}"
    environment = {
        mounts.STATUS_URL_VARIABLE: f"{base}/status",
        mounts.STATUS_TOKEN_VARIABLE: str(mounts.STATUS_DIRECTORY / "token"),
        mounts.REPORT_URL_VARIABLE: f"{base}/report",
        mounts.VERSION_URL_VARIABLE: f"{base}/version",
    }
    if settings.status_ca:
        environment[mounts.STATUS_CA_VARIABLE] = str(mounts.STATUS_DIRECTORY / "ca.crt")
    if config.distribution.nodes > 1:
        environment["MASTER_ADDR"] = main_address(metadata.name, config.attempt)
        environment["MASTER_PORT"] = str(mounts.RENDEZVOUS_PORT)
    threads = _threads(profile, processes=max(config.distribution.accelerators_per_node, 1))
    if threads and not any(variable.name == "OMP_NUM_THREADS" for variable in profile.environment):
        environment["OMP_NUM_THREADS"] = str(threads)
    return environment


def _threads(profile: TrainingProfileSpec, *, processes: int) -> int | None:
    """CPUs of one process. torch counts the CPUs of the node instead, and throttles itself to a crawl under a limit."""
    cpu = profile.resources.limits.get("cpu", profile.resources.requests.get("cpu"))
    return max(math.ceil(parse_quantity(cpu)) // processes, 1) if cpu is not None else None


def _volumes(
    config: RunConfig, name: str, *, profile: TrainingProfileSpec, storage: StorageProfileSpec, settings: Settings
) -> list[volumes.Volume]:
    sources = [config.model.uri, *(source.uri for split in _splits(config) for source in split)]
    judge = config.objective.reward_model
    sources += [judge.uri] if judge is not None else []
    known = (config.model_version, config.champion, config.reward_model)
    versions = [version for version in known if version is not None]
    sources += [version.base_model.uri for version in versions]
    chosen = [
        volumes.config_volume(name, file=mounts.RUN_CONFIG_FILE),
        volumes.status_volume(name, authority=bool(settings.status_ca)),
        volumes.credentials_volume(storage),
        volumes.scratch_volume(profile.scratch_size),
        *volumes.claim_volumes(sources),
    ]
    under = config.model_version.base_model.secret_name if config.model_version else ""
    chosen += volumes.hub_volumes(config.model.secret_name or under)
    if config.output.sign:
        chosen.append(volumes.signing_volume(config.output.signing_secret_name))
    if config.distribution.nodes > 1 or config.distribution.accelerators_per_node:
        chosen.append(volumes.shared_memory_volume())
    return chosen


def _splits(config: RunConfig) -> tuple[list[DataSource], ...]:
    data = config.data
    return (data.train, data.validation, data.test, data.general)
