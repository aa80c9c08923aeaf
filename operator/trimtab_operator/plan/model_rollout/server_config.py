"""ServerConfig: the one document that tells a server what to serve. A pure function of rollout, version and profiles."""

from trimtab_operator.api.v1alpha1 import ModelRollout, ModelVersion, StorageProfile, TrainingProfile
from trimtab_operator.plan.stores import model_source, store
from trimtab_trainer.contract.run_config import JobIdentity, ServedVersion, ServerConfig, SignaturePolicy
from trimtab_trainer.contract.spec import Task


def server_config(
    rollout: ModelRollout, version: ModelVersion, *, profile: TrainingProfile, storage: StorageProfile
) -> ServerConfig:
    """One version with all of the traffic."""
    metadata = rollout.metadata
    return ServerConfig(
        rollout=JobIdentity(namespace=metadata.namespace, name=metadata.name, uid=metadata.uid),
        model_name=rollout.spec.model_name,
        task=version.spec.task or Task.model_validate({"causalLanguageModeling": {}}),
        base_model=model_source(version.spec.base_model),
        versions=[served_version(version, weight=100)],
        store=store(storage.metadata.name, storage.spec),
        signatures=SignaturePolicy(
            public_keys=profile.spec.signing.public_keys, required=profile.spec.signing.required
        ),
        termination_grace_seconds=profile.spec.termination_grace_period_seconds,
    )


def served_version(version: ModelVersion, *, weight: int) -> ServedVersion:
    """A version as the server knows it."""
    artifact = version.spec.artifact
    return ServedVersion(
        name=version.metadata.name,
        version=version.spec.version,
        artifact_uri=artifact.uri,
        manifest_sha256=artifact.manifest_sha256,
        # What else a ModelVersion may be, validation has refused.
        format="safetensors" if artifact.format == "safetensors" else "peftAdapter",
        signed=version.spec.signature is not None,
        weight=weight,
    )
