"""The attempt's ConfigMap: its RunConfig, and the authority of the status endpoint."""

import orjson

from trimtab_operator.api.quantities import parse_quantity
from trimtab_operator.api.v1alpha1.storage_profile import StorageProfileSpec
from trimtab_operator.api.v1alpha1.training_profile import TrainingProfileSpec
from trimtab_operator.plan.champion import champion
from trimtab_operator.plan.fine_tune_job import children
from trimtab_operator.plan.stores import resolved_version, store
from trimtab_operator.settings import Settings
from trimtab_operator.state import Manifest, ObservedJob
from trimtab_trainer.contract import mounts
from trimtab_trainer.contract.run_config import JobIdentity, Pins, RunConfig
from trimtab_trainer.contract.spec import Output


def config_map(observed: ObservedJob, text: str, *, attempt: int, settings: Settings) -> Manifest:
    """The ConfigMap `<job>-a<N>` with `config_text`."""
    data = {mounts.RUN_CONFIG_FILE.name: text}
    if settings.status_ca:
        data["ca.crt"] = settings.status_ca
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": children.metadata(observed.job, attempt),
        "data": data,
    }


def config_text(config: RunConfig) -> str:
    """RunConfig as JSON that `kubectl get configmap -o yaml` shows line by line. The image may be of an earlier release."""
    layout = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE
    return orjson.dumps(config.to_sparse_json(), option=layout).decode()


def run_config(
    observed: ObservedJob,
    attempt: int,
    *,
    profile: TrainingProfileSpec,
    storage: StorageProfileSpec,
    settings: Settings,
) -> RunConfig:
    """Everything that attempt needs to know: a pure function of job and profiles."""
    job, spec = observed.job, observed.job.spec
    memory = profile.resources.limits.get("memory")
    rival = champion(observed.rivals, observed.rollouts)
    return RunConfig(
        job=JobIdentity(namespace=job.metadata.namespace, name=job.metadata.name, uid=job.metadata.uid),
        attempt=attempt,
        model=spec.model,
        model_version=resolved_version(observed.base_version) if observed.base_version else None,
        task=spec.task,
        objective=spec.objective,
        method=spec.method,
        data=spec.data,
        training=spec.training,
        distribution=spec.distribution,
        checkpoints=spec.checkpoints,
        output=_output(spec.output, profile),
        evaluation=spec.evaluation if spec.evaluation.gates else None,
        champion=resolved_version(rival) if rival is not None else None,
        reward_model=resolved_version(observed.reward_version) if observed.reward_version else None,
        store=store(
            job.status.resolved.storage_name or (observed.storage.metadata.name if observed.storage else ""),
            storage,
            # The first job that meets a store finds out whether it keeps the promises that checkpoints rest on.
            probe=observed.storage is not None and observed.storage.status.probe is None,
        ),
        pins=Pins(model=job.status.resolved.model_digest, datasets=job.status.resolved.datasets),
        image=job.status.resolved.image_digest or observed.image(settings.trainer_image),
        memory_limit_bytes=int(parse_quantity(memory)) if memory is not None else None,
        termination_grace_seconds=profile.termination_grace_period_seconds,
        watts=profile.watts,
        carbon_intensity=profile.carbon_intensity,
    )


def _output(output: Output, profile: TrainingProfileSpec) -> Output:
    """With the Secret that the profile names, where the job names none."""
    if not output.sign or output.signing_secret_name:
        return output
    return output.model_copy(update={"signing_secret_name": profile.signing.secret_name})
